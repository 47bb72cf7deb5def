"""The examples run: unchanged scripts under `run_script`, the one-line block, and the callbacks in the real libraries."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.capture.programs import read
from tests.capture.zygote import ROOT, Zygote

EXAMPLES = ROOT / "examples"
SMALL = ["--steps", "9", "--batch", "2", "--block", "16", "--width", "16", "--layers", "1"]

RUN = """
import sys
from mfu_doctor.session.run_script import RunOptions, run_script
sys.exit(run_script(sys.argv[1], sys.argv[2:], options=RunOptions(output="run.pt.trace.json.gz", print_report=False,
                                                               skip=2, timed=2, warmup=1, active=2)))
"""


@pytest.mark.parametrize("fault", ["none", "slow-loader", "sync", "tiny-batch", "python"])
def test_nanogpt_runs_unchanged_with_each_fault(zygote: Zygote, tmp_path: Path, fault: str) -> None:
    ran = zygote.run(RUN, tmp_path, str(EXAMPLES / "nanogpt.py"), "--fault", fault, *SMALL)
    assert ran.code == 0, ran.err
    facts = read(tmp_path / "run.pt.trace.json.gz").facts
    assert facts.step_source == "optimizer"
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 2), ("shapes", 1)]
    assert facts.batch_shape == (1 if fault == "tiny-batch" else 2, 16)
    if fault == "slow-loader":
        assert (facts.loaders[0].wait_s or 0) > 0.01
    assert "import mfu_doctor" not in (EXAMPLES / "nanogpt.py").read_text()


def test_resnet_records_itself(zygote: Zygote, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "resnet.py", tmp_path / "resnet.py")
    program = "import runpy, sys; sys.argv[0] = 'resnet.py'; runpy.run_path('resnet.py', run_name='__main__')"
    ran = zygote.run(program, tmp_path, "--steps", "9", "--batch", "2", "-o", "r.pt.trace.json.gz")
    assert ran.code == 0, ran.err
    assert "loss" in ran.out
    facts = read(tmp_path / "r.pt.trace.json.gz").facts
    assert facts.site is not None
    assert facts.site.startswith("resnet.py:")
    assert {window.kind for window in facts.windows} == {"timing", "shapes"}


HUGGING_FACE = """
import sys, warnings
warnings.simplefilter("ignore")  # the library's own
sys.path.insert(0, {examples!r})
import torch
from callback_huggingface import MfuDoctor
from transformers import Trainer, TrainingArguments

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)
    def forward(self, x, labels):
        return {{"loss": torch.nn.functional.cross_entropy(self.linear(x), labels)}}

data = [{{"x": torch.ones(8) * i, "labels": i % 2}} for i in range(96)]
arguments = TrainingArguments("out", max_steps=24, per_device_train_batch_size=2, gradient_accumulation_steps=2,
                              report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True)
doctor = MfuDoctor(path="cb.pt.trace.json.gz", print_report=False)
trainer = Trainer(Model(), arguments, train_dataset=data, callbacks=[doctor])
"""

FAILS_FIRST = """
from transformers import TrainerCallback
class Failing(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4: raise ValueError("the user's own")
failing = Failing()
trainer.add_callback(failing)
try:
    trainer.train()
except ValueError as error:
    print(error)
trainer.remove_callback(failing)
"""

LIGHTNING = """
import sys, warnings
warnings.simplefilter("ignore")  # the library's own
sys.path.insert(0, {examples!r})
import torch
from callback_lightning import MfuDoctor
from lightning.pytorch import LightningModule, Trainer

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)
    def training_step(self, batch, index):
        return self.linear(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

data = torch.utils.data.DataLoader(torch.ones(96, 8), 2)
trainer = Trainer(max_steps=24, accumulate_grad_batches=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                  enable_progress_bar=False, callbacks=[MfuDoctor(path="cb.pt.trace.json.gz", print_report=False)])
trainer.fit(Model(), data)
"""


CALLBACKS = [
    ("transformers", HUGGING_FACE + "trainer.train()"),
    ("transformers", HUGGING_FACE + FAILS_FIRST + "trainer.train()"),  # in a notebook the second try is the usual one
    ("lightning", LIGHTNING),
]


@pytest.mark.parametrize(("library", "program"), CALLBACKS, ids=["transformers", "transformers-again", "lightning"])
def test_callbacks_work_in_the_real_libraries(zygote: Zygote, tmp_path: Path, library: str, program: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    ran = zygote.run(program.format(examples=str(EXAMPLES)), tmp_path)
    assert ran.code == 0, ran.err
    facts = read(tmp_path / "cb.pt.trace.json.gz").facts
    assert facts.step_source == "step()"
    assert facts.micro_batches == pytest.approx(2.0, abs=0.1)
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
