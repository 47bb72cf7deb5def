"""The callbacks in the real trainers: recorded, metered, and their numbers read back from the log of the library itself."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from mfu_doctor.meter.meter import WINDOW
from tests.capture.programs import read
from tests.capture.zygote import Ended, Zygote

FLOPS = 2 * 4 * 2 * (8 * 2 * 2)  # two micro-batches of four rows; the first layer's input needs no gradient

STANDS = """
import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter
def standing(*more):
    \"\"\"The functions that a recorder, a meter and a callback replace while they look.\"\"\"
    return _BaseDataLoaderIter.__next__, torch.autograd._engine_run_backward, *more
"""

HUGGING_FACE = """
import os, warnings
warnings.simplefilter("ignore")  # the library's own
os.environ["TENSORBOARD_LOGGING_DIR"] = "board"
import json
import torch
from mfu_doctor.integrations.huggingface import MfuCallback
from transformers import Trainer, TrainerCallback, TrainingArguments

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)
    def forward(self, x, labels):
        return {"loss": torch.nn.functional.cross_entropy(self.linear(x), labels)}

data = [{"x": torch.ones(8) * i, "labels": i % 2} for i in range(320)]
def trainer(*callbacks, trackers=[]):
    arguments = TrainingArguments("out", max_steps=40, per_device_train_batch_size=4, gradient_accumulation_steps=2,
                                  logging_steps=5, eval_strategy="steps", eval_steps=10, save_strategy="no",
                                  report_to=trackers, disable_tqdm=True, use_cpu=True)
    return Trainer(Model(), arguments, train_dataset=data, eval_dataset=data[:8], callbacks=list(callbacks))
"""

LOGGED = """
doctor = MfuCallback(path="cb.pt.trace.json.gz", print_report=False, peak_flops=1e9)
before = Trainer.log
trained = trainer(doctor, trackers=["tensorboard"])
trained.train()
assert Trainer.log is before
other = trainer(MfuCallback(record=False, log={"mfu": "device/mfu"}, model_flops=1e6, peak_flops=1e12))
other.train()
print(json.dumps([trained.state.log_history, other.state.log_history]))
"""

FAILING = """
class Failing(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4: raise FAILURE
def fails(trained):
    try:
        trained.train()
    except type(FAILURE) as error:
        assert error is FAILURE
        return
    raise AssertionError
"""

FAILS_FIRST = """
doctor, failing = MfuCallback(path="cb.pt.trace.json.gz", print_report=False), Failing()
before = standing(Trainer.log)
trained = trainer(doctor, failing)
fails(trained)
assert standing(Trainer.log) == before
assert doctor.notes == ()
trained.remove_callback(failing)
trained.train()
assert standing(Trainer.log) == before
"""

# As in a notebook: the cell is run again, and later another one.
INTERRUPTED = """
import gc
import mfu_doctor
before = standing(Trainer.log, Trainer.train)
first = MfuCallback(path="first.pt.trace.json.gz", print_report=False)
fails(trainer(first, Failing()))
assert standing(Trainer.log) == before[:-1]
assert first.recorder.report is not None
second = MfuCallback(path="cb.pt.trace.json.gz", print_report=False)
trainer(second).train()
assert second.recorder.report is not None, second.notes
with mfu_doctor.profile("own.pt.trace.json.gz", print_report=False) as own:
    fails(trainer(Failing()))
assert own.report is not None, own.notes
del first, second, FAILURE  # and the frames that its traceback holds
gc.collect()
assert standing(Trainer.log, Trainer.train) == before
"""

DISABLED = """
before = standing(Trainer.log, Trainer.train)
class Looking(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        assert standing(Trainer.log, Trainer.train) == before
for record in (True, False):
    doctor = MfuCallback(enabled=False, record=record)
    trained = trainer(doctor, Looking())
    trained.train()
    assert not any("step_time_s" in row for row in trained.state.log_history)
    assert doctor.notes == ()
"""

UNREADABLE = """
from pathlib import Path
from mfu_doctor.errors import DoctorError
WRONG = "[tool.mfu-doctor]\\npeek-flops = 1\\n"
Path("pyproject.toml").write_text(WRONG)
try:
    MfuCallback()
    raise AssertionError
except DoctorError as error:
    assert "peek-flops" in str(error)
Path("pyproject.toml").unlink()
doctor = MfuCallback(path="cb.pt.trace.json.gz", print_report=False)
Path("pyproject.toml").write_text(WRONG)
before = standing(Trainer.log)
trainer(doctor).train()
assert standing(Trainer.log) == before
assert any("peek-flops" in note for note in doctor.notes), doctor.notes
Path("pyproject.toml").unlink()
assert doctor.recorder.report is not None
"""

LIGHTNING = """
import warnings
warnings.simplefilter("ignore")  # the library's own
import torch
from mfu_doctor.integrations.lightning import MfuCallback
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)
    def training_step(self, batch, index):
        loss = self.linear(batch).square().mean()
        self.log("loss", loss)
        if index == FAILS_AT: raise ValueError("the user's own")
        return loss
    def validation_step(self, batch, index):
        self.log("validated", self.linear(batch).square().mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

class Batches(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(MOST):
            yield torch.ones(4 if i < GROW_AT else i, 8)
data = torch.utils.data.DataLoader(Batches(), batch_size=None)
doctor = MfuCallback(path="cb.pt.trace.json.gz", print_report=False, peak_flops=1e9)
trainer = Trainer(max_steps=MOST // 2, accumulate_grad_batches=2, accelerator="cpu", logger=CSVLogger("."), log_every_n_steps=5,
                  enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[doctor])
before = standing()
try:
    trainer.fit(Model(), data, torch.utils.data.DataLoader(torch.ones(8, 8), 4))
except ValueError as error:
    print(error)
assert standing() == before
"""

PROFILED_LATER = """
import mfu_doctor
with mfu_doctor.profile("own.pt.trace.json.gz", print_report=False) as own:
    model = torch.nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in data:
        model(batch).square().mean().backward()
        optimizer.step()
assert own.report is not None, own.notes
"""

ACCELERATE = """
import warnings
warnings.simplefilter("ignore")  # the library's own
from accelerate import Accelerator
import mfu_doctor
import torch
accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir="board", gradient_accumulation_steps=2)
accelerator.init_trackers("run")
data = torch.utils.data.DataLoader(torch.ones(320, 8), 4)
model = torch.nn.Linear(8, 2)
model, optimizer, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01), data)
meter, step = mfu_doctor.Meter(model, peak_flops=1e9), 0
for batch in data:
    with accelerator.accumulate(model):
        accelerator.backward(model(batch).square().mean())
        optimizer.step()
        optimizer.zero_grad()
    if accelerator.sync_gradients:
        step += 1
        accelerator.log(meter.step().scalars, step)
accelerator.end_training()
"""


def trained(zygote: Zygote, folder: Path, library: str, program: str) -> Ended:
    """Run a program with a library."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    ran = zygote.run(program, folder)
    assert ran.code == 0, ran.err
    return ran


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Every scalar of a folder as TensorBoard's reader has it, by step."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for file in folder.rglob("events.out.tfevents*"):
        events = EventAccumulator(str(file))
        events.Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, {}).update({scalar.step: scalar.value for scalar in events.Scalars(name)})
    return found


def logged_in(folder: Path) -> dict[str, dict[int, float]]:
    """Every curve that Lightning's CSVLogger wrote, by step."""
    found: dict[str, dict[int, float]] = {}
    with next(folder.glob("lightning_logs/*/metrics.csv")).open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    found.setdefault(name, {})[int(row["step"])] = float(value)
    return found


def recorded_in(folder: Path) -> None:
    """The trace is one of steps of two micro-batches that the library told."""
    facts = read(folder / "cb.pt.trace.json.gz").facts
    assert facts.step_source == "step()"
    assert facts.micro_batches == pytest.approx(2.0, abs=0.1)
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]


def test_the_trainer_of_transformers_logs_mfu_where_it_logs_the_loss(zygote: Zygote, tmp_path: Path) -> None:
    ran = trained(zygote, tmp_path, "transformers", HUGGING_FACE + LOGGED)
    recorded_in(tmp_path)
    first, second = json.loads(ran.out.splitlines()[-1])
    steps = {row["step"]: row for row in first if "loss" in row}
    assert list(steps) == list(range(5, 41, 5))
    assert "mfu" not in steps[5]  # not known yet, and so it is not there
    last = steps[40]
    assert last["mfu"] == pytest.approx(FLOPS / 1e9 / last["step_time_s"])
    assert last["samples_per_second"] == pytest.approx(8 / last["step_time_s"])
    assert not any("mfu" in row for row in first if "eval_loss" in row or "train_runtime" in row)
    board = curves(tmp_path / "board")
    assert board["train/mfu"][40] == pytest.approx(last["mfu"])
    assert board["train/loss"].keys() - board["train/step_time_s"].keys() == {
        20
    }  # the ten steps until then were recorded
    named = next(row for row in second if row.get("step") == 40 and "loss" in row)
    assert named["device/mfu"] > 0
    assert "step_time_s" not in named


@pytest.mark.parametrize("failure", ["ValueError", "KeyboardInterrupt"])
@pytest.mark.parametrize("after", [FAILS_FIRST, INTERRUPTED], ids=["the_same_callback", "others"])
def test_a_training_that_failed_is_followed_by_one_that_is_recorded(
    zygote: Zygote, tmp_path: Path, after: str, failure: str
) -> None:
    program = STANDS + HUGGING_FACE + f"FAILURE = {failure}()\n" + FAILING + after
    trained(zygote, tmp_path, "transformers", program)
    recorded_in(tmp_path)


def test_a_disabled_callback_does_nothing(zygote: Zygote, tmp_path: Path) -> None:
    trained(zygote, tmp_path, "transformers", STANDS + HUGGING_FACE + DISABLED)


def test_wrong_settings_are_told_before_the_training_and_never_end_it(zygote: Zygote, tmp_path: Path) -> None:
    trained(zygote, tmp_path, "transformers", STANDS + HUGGING_FACE + UNREADABLE)
    recorded_in(tmp_path)


def test_the_trainer_of_lightning_logs_mfu_where_it_logs_the_loss(zygote: Zygote, tmp_path: Path) -> None:
    trained(zygote, tmp_path, "lightning", STANDS + "FAILS_AT, GROW_AT, MOST = None, 80, 80\n" + LIGHTNING)
    recorded_in(tmp_path)
    curve = logged_in(tmp_path)
    assert sorted(curve["loss"]) == sorted(curve["step_time_s"]) == list(range(4, 40, 5))
    assert 4 not in curve["mfu"]
    last = {name: values[39] for name, values in curve.items() if 39 in values}
    assert last["mfu"] == pytest.approx(FLOPS / 1e9 / last["step_time_s"])
    assert last["samples_per_second"] == pytest.approx(8 / last["step_time_s"])


def test_what_is_not_known_any_more_is_not_logged_in_lightning(zygote: Zygote, tmp_path: Path) -> None:
    """From the thirtieth step on no two have the same shapes, so that none of them is counted."""
    trained(zygote, tmp_path, "lightning", STANDS + "FAILS_AT, GROW_AT, MOST = None, 60, 100\n" + LIGHTNING)
    curve = logged_in(tmp_path)
    assert sorted(curve["step_time_s"]) == list(range(4, 50, 5))
    assert {29, 34} <= curve["mfu"].keys()
    assert 49 not in curve["mfu"]


# So many steps are recorded that for some steps no mean of the latest ten is left.
RECORDS = 'path="cb.pt.trace.json.gz"', 'path="cb.pt.trace.json.gz", skip=2, timed=2, active=14'


def test_a_step_that_was_recorded_logs_no_older_time_with_transformers(zygote: Zygote, tmp_path: Path) -> None:
    often = HUGGING_FACE.replace("logging_steps=5", "logging_steps=1")
    ran = trained(zygote, tmp_path, "transformers", often + LOGGED.replace(*RECORDS))
    rows = [row for row in json.loads(ran.out.splitlines()[-1])[0] if "loss" in row]
    no_time_stays([row.get("step_time_s") for row in rows])


def test_a_step_that_was_recorded_logs_no_older_time_with_lightning(zygote: Zygote, tmp_path: Path) -> None:
    program = LIGHTNING.replace(*RECORDS).replace("log_every_n_steps=5", "log_every_n_steps=1")
    trained(zygote, tmp_path, "lightning", STANDS + "FAILS_AT, GROW_AT, MOST = None, 80, 80\n" + program)
    curve = logged_in(tmp_path)
    no_time_stays([curve["step_time_s"].get(step) for step in sorted(curve["loss"])])


def no_time_stays(times: list[float | None]) -> None:
    """A time is told while it is of one of the latest ten steps, and then there is none until a step runs as usual again."""
    assert all(times.count(time) <= WINDOW for time in times if time is not None)
    assert None in times[WINDOW:]
    assert times[-1] is not None


def test_a_training_of_lightning_that_fails_leaves_nothing(zygote: Zygote, tmp_path: Path) -> None:
    program = STANDS + "FAILS_AT, GROW_AT, MOST = 5, 80, 80\n" + LIGHTNING + PROFILED_LATER
    assert "the user's own" in trained(zygote, tmp_path, "lightning", program).out


def test_accelerate_logs_mfu_in_two_lines(zygote: Zygote, tmp_path: Path) -> None:
    trained(zygote, tmp_path, "accelerate", ACCELERATE)
    board = curves(tmp_path / "board")
    step = max(board["step_time_s"])
    assert step == 40
    assert board["mfu"][step] == pytest.approx(FLOPS / 1e9 / board["step_time_s"][step])
    assert min(board["mfu"]) > min(board["step_time_s"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"log": {"speed": "x"}}, "names no number of a reading"),
        ({"tokens_per_step": 0}, r"MfuCallback\(tokens_per_step=0"),
        ({"peak_flops": -1.0, "record": False}, "peak_flops"),
        ({"skip": -1}, "skip=-1"),
    ],
)
def test_wrong_options_are_told_before_the_training(options: dict[str, object], said: str) -> None:
    from mfu_doctor.errors import DoctorError
    from mfu_doctor.integrations.watched import Watched

    given = {"record": True, "log": None, "tokens_per_step": None}
    ours = {name: options.pop(name) for name in given if name in options}
    with pytest.raises(DoctorError, match=said):
        Watched(options, **(given | ours))  # type: ignore[arg-type]


def test_what_the_meter_could_not_measure_is_told_after_the_training() -> None:
    from mfu_doctor.integrations.watched import Watched

    watched = Watched({}, record=False, log=None, tokens_per_step=None)
    watched.begin(None)
    assert watched.meter is not None
    watched.meter._ledger.notes.say("it was the meter's")
    watched.end()
    assert watched.told == ("it was the meter's",)
