"""What runs before the training is not reported as the training, however long it is; without a training it is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL
from mfu_doctor.reading import read_trace
from tests.capture.programs import BY_HAND, STEP, TRACE, ours, read, with_and_without
from tests.capture.zygote import Zygote

EVALUATION = """
    with torch.no_grad():
        for x, y in loader(60): forward(x, y)
"""
TRAINING = """
    for x, y in loader(40): train(x, y)
"""
BLOCK = "with block() as doctor:"

# Program, where the steps of the training come from, and how many they are.
LATER = {
    "an evaluation over a loader": (BLOCK + EVALUATION + TRAINING, "optimizer", 40),
    "an evaluation over a loader, with gradients enabled": (
        BLOCK + EVALUATION.replace("torch.no_grad()", "contextlib.nullcontext()") + TRAINING,
        "optimizer",
        40,
    ),
    "calls of the model before the optimizer exists": (
        """
del optimizer
with block() as doctor:
    with torch.no_grad():
        for i in range(60): model(torch.full((16, 8), float(i)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
"""
        + TRAINING,
        "optimizer",
        40,
    ),
    "calls of the model, an evaluation over a loader, then a training without one": (
        """
del optimizer
with block() as doctor:
    with torch.no_grad():
        for i in range(60): model(torch.full((16, 8), float(i)))
"""
        + EVALUATION
        + """
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for i in range(40): train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
""",
        "optimizer",
        40,
    ),
    "an evaluation, then gradient descent by hand": (
        """
del optimizer
with block() as doctor:
"""
        + EVALUATION
        + BY_HAND,
        "backward",
        40,
    ),
    "an evaluation, then a training in a thread": (
        "def work():"
        + TRAINING
        + BLOCK
        + EVALUATION
        + "    thread = threading.Thread(target=work)\n    thread.start()\n"
        "    thread.join()\n",
        "optimizer",
        None,
    ),
    "optimizer steps, then step() for two of them": (
        BLOCK + TRAINING + "    for i, (x, y) in enumerate(loader(80)):\n        train(x, y)\n"
        "        if i % 2: doctor.step()\n",
        "step()",
        40,
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_the_training_is_recorded_however_late_it_begins(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body, source, steps = LATER[name]
    ended, _ = with_and_without(zygote, tmp_path, body)
    assert ended.code == 0, ended.err
    facts = ours(tmp_path).facts
    assert facts.step_source == source
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
    assert flops_of(tmp_path) == {STEP * (2 if source == "step()" else 1)}
    assert facts.whole_run is not None
    assert facts.whole_run.ended
    assert steps is None or abs(facts.whole_run.steps - steps) <= 3  # that no batch is loaded is seen after three steps
    assert facts.whole_run.before_s > 0
    assert facts.notes == ()


def flops_of(folder: Path) -> set[int]:
    """FLOP of the recorded steps."""
    counted = Run(read_trace(folder / "ours" / TRACE)).flops
    return set(counted.tally[..., MODEL].sum(axis=(1, 2)).tolist())


def test_a_program_that_never_trains_keeps_its_report(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, BLOCK + EVALUATION)
    facts = ours(tmp_path).facts
    assert facts.step_source == "fetch"
    assert facts.windows[0].steps == 5
    assert facts.whole_run is not None
    assert (facts.whole_run.steps, facts.whole_run.ended) == (60, True)


def test_a_training_too_short_to_be_recorded_leaves_what_was_recorded_and_says_so(
    zygote: Zygote, tmp_path: Path
) -> None:
    with_and_without(zygote, tmp_path, BLOCK + EVALUATION + TRAINING.replace("40", "1"))
    facts = ours(tmp_path).facts
    assert facts.step_source == "fetch"
    assert facts.windows[0].steps == 5
    assert [note for note in facts.notes if note.startswith("this is not the training")]


def test_a_directory_holds_one_file_of_the_training(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, BLOCK.replace("block()", "block('runs/')") + EVALUATION + TRAINING)
    (written,) = (tmp_path / "ours" / "runs").iterdir()
    assert read(written).facts.step_source == "optimizer"


def test_a_training_that_fails_at_its_first_step_leaves_the_evaluation(zygote: Zygote, tmp_path: Path) -> None:
    watched, _ = with_and_without(
        zygote, tmp_path, BLOCK + EVALUATION + TRAINING.replace("train(x, y)", "forward(x, y).backward(); 1 / 0")
    )
    assert watched.code == 1
    assert ours(tmp_path).facts.step_source == "fetch"
