"""Where a trainer runs the loop, a fix is an argument of it; a loop of the program's own gets lines."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.evidence.trainer_arguments import for_trainer
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.rule_runner import examine
from mfu_doctor.rules.contract import Finding
from mfu_doctor.rules.kernels.fp32_matmul import fp32_matmul
from tests.rules.judging import run_of
from tests.rules.kernels.test_fp32_matmul import SGEMM, loop
from tests.timeline import Timeline

OWN = "train.py(12): main"
HUGGING_FACE = "transformers/trainer.py(1881): _inner_training_loop"
LIGHTNING = "lightning/pytorch/loops/training_epoch_loop.py(310): advance"
ACCELERATE = "accelerate/accelerator.py(1104): accumulate"
LARGER = "DataLoader(..., batch_size=8)  # and optimizer.step() after 2 batches; loss / 2, not / 4"
ALL = "DataLoader(..., batch_size=4 * batch_size)  # and optimizer.step() after each batch; no loss / 4"
BF16 = 'with torch.autocast("cuda", dtype=torch.bfloat16):  # around forward and loss'
LOADER = "DataLoader(..., num_workers=4, pin_memory=True, persistent_workers=True)"
COMPILE = 'model = torch.compile(model, mode="reduce-overhead")'
FUSED = "torch.optim.AdamW(model.parameters(), ..., fused=True)"


def inside(frame: str, drawn: Timeline | None = None) -> Run:
    """A run whose steps are inside of this frame."""
    drawn = drawn or Timeline()
    drawn.add("python_function", frame, 0, drawn.now + 10)
    return run_of(drawn)


@pytest.mark.parametrize(
    ("frame", "fix", "spelled"),
    [
        (HUGGING_FACE, BF16, "TrainingArguments(..., bf16=True)"),
        (
            HUGGING_FACE,
            LOADER,
            "TrainingArguments(..., dataloader_num_workers=4, dataloader_pin_memory=True, dataloader_persistent_workers=True)",
        ),
        (HUGGING_FACE, "DataLoader(..., batch_size=None)", "DataLoader(..., batch_size=None)"),
        (HUGGING_FACE, LARGER, "TrainingArguments(..., per_device_train_batch_size=8, gradient_accumulation_steps=2)"),
        (LIGHTNING, LARGER, "Trainer(..., accumulate_grad_batches=2)  # and DataLoader(..., batch_size=8)"),
        (
            ACCELERATE,
            ALL,
            "Accelerator(..., gradient_accumulation_steps=1)  # and DataLoader(..., batch_size=4 * batch_size)",
        ),
        (OWN, LARGER, LARGER),
        (HUGGING_FACE, COMPILE, 'TrainingArguments(..., torch_compile=True, torch_compile_mode="reduce-overhead")'),
        (HUGGING_FACE, FUSED, 'TrainingArguments(..., optim="adamw_torch_fused")'),
        (HUGGING_FACE, 'torch.set_float32_matmul_precision("high")', "TrainingArguments(..., tf32=True)"),
        (
            HUGGING_FACE,
            "DistributedDataParallel(model, broadcast_buffers=False)",
            "TrainingArguments(..., ddp_broadcast_buffers=False)",
        ),
        (
            HUGGING_FACE,
            "x = block(x)  # not checkpoint(block, x), nor gradient_checkpointing=True: all activations fit into memory",
            "TrainingArguments(..., gradient_checkpointing=False)",
        ),
        (LIGHTNING, BF16, 'Trainer(..., precision="bf16-mixed")'),
        (LIGHTNING, LOADER, LOADER),
        (LIGHTNING, "torch.autograd.set_detect_anomaly(False)  # and no context", "Trainer(..., detect_anomaly=False)"),
        (LIGHTNING, "torch.backends.cudnn.benchmark = True", "Trainer(..., benchmark=True)"),
        (
            LIGHTNING,
            "DistributedDataParallel(model, bucket_cap_mb=25)",
            "Trainer(..., strategy=DDPStrategy(bucket_cap_mb=25))",
        ),
        (OWN, BF16, BF16),
        (OWN, LOADER, LOADER),
    ],
)
def test_a_fix_is_spelled_for_who_runs_the_loop(frame: str, fix: str, spelled: str) -> None:
    assert for_trainer(inside(frame), fix) == spelled


@pytest.mark.parametrize("frame", [OWN, HUGGING_FACE])
def test_findings_come_in_that_spelling(frame: str) -> None:
    [examined] = examine(inside(frame, loop(SGEMM, 9_000)), (fp32_matmul,))
    assert isinstance(examined.outcome, Finding)
    assert ("TrainingArguments(" in examined.outcome.fix) == (frame == HUGGING_FACE)
