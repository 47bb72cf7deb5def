"""After the recording the steps are timed until the block ends; the training does not notice, and the file says what was seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import mfu_doctor
from tests.capture.programs import LOOP, PRELUDE, ours, with_and_without
from tests.capture.zygote import Zygote

# How late the thread that looks comes on a busy machine decides nothing: the program stays where it is until it was seen there.
SEEN = """
looked = threading.Event()
if not PLAIN:
    from mfu_doctor.capture.loop.run_sampler import RunSampler
    look = RunSampler._look
    RunSampler._look = lambda *args: (look(*args), looked.set())
def stays(seconds):
    time.sleep(seconds)
    for _ in range(2):
        looked.clear()
        PLAIN or looked.wait()
"""

EVALUATING = (
    SEEN
    + """
def evaluate():
    with torch.no_grad():
        for x, y in loader(3):
            forward(x, y)
        stays(0.06)

def fit():
    for epoch in range(4):
        for x, y in loader(20):
            train(x, y)
        evaluate()

with block() as doctor:
    fit()
"""
)

ROLLING = (
    SEEN
    + """
def rollout():
    stays(0.3)

def fit():
    for _ in range(10):
        rollout()
        for _ in range(8):
            train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))

with block() as doctor:
    fit()
"""
)

SHORT_STEPS = """
with block() as doctor:
    for x, y in loader(600):
        train(x, y)
"""


def test_evaluations_between_epochs_are_named_with_the_line_that_calls_them(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, EVALUATING)
    run = ours(tmp_path).facts.whole_run
    assert run is not None
    assert (run.ended, run.steps, run.gaps) == (True, 80, 4 - 1)  # what follows the last epoch lies after the last step
    assert run.between_s >= 3 * 0.06
    top = next(e for e in run.elsewhere if e.part == "between")
    line = (PRELUDE + EVALUATING).splitlines().index("        evaluate()") + 1
    assert (top.place, top.function, top.kind) == (f"program.py:{line}", "evaluate", "evaluation")


def test_rollouts_in_a_loop_without_a_loader_are_what_long_steps_take_more(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, ROLLING)
    run = ours(tmp_path).facts.whole_run
    assert run is not None
    assert run.long_s + run.startup_s >= 9 * 0.3 * 0.9  # the first one lies before the first step
    assert run.before_s >= 0.3
    top = next(e for e in run.elsewhere if e.part == "long")
    assert (top.function, top.kind) == ("rollout", "rollout")


def test_short_steps_are_timed_by_the_hundred(zygote: Zygote, tmp_path: Path) -> None:
    """Five steps of a millisecond say nothing: the steps after the recording do."""
    with_and_without(zygote, tmp_path, SHORT_STEPS)
    facts = ours(tmp_path).facts
    assert len(facts.beside_steps_s) == 5
    assert len(facts.timed_steps_s) == len(facts.timed_waits_s) >= 300
    assert facts.whole_run is not None
    assert facts.whole_run.steps == 600


def test_a_block_that_ends_with_its_recording_keeps_the_few_timed_steps(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, LOOP)
    facts = ours(tmp_path).facts
    assert len(facts.timed_steps_s) == 5
    assert facts.whole_run is not None
    assert (facts.whole_run.ended, facts.whole_run.steps) == (True, 24)


def test_a_process_that_is_killed_leaves_what_was_recorded(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    for i, (x, y) in enumerate(loader(200)):
        train(x, y)
        if i == 60:
            os._exit(3)
"""
    with_and_without(zygote, tmp_path, body)
    facts = ours(tmp_path).facts
    assert len(facts.windows) == 2
    assert facts.whole_run is not None
    assert not facts.whole_run.ended


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_file_that_was_taken_away_meanwhile_is_not_written_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run.json"
    with mfu_doctor.profile(path, print_report=False, skip=0, timed=0, warmup=0) as doctor:
        for _ in range(40):
            doctor.step()
            if path.exists() and doctor.path is not None:
                path.unlink() if change == "gone" else path.write_text(json.dumps({"traceEvents": []}))
    assert path.exists() == (change == "other")
    assert any("was moved or changed" in note for note in doctor.notes)


def test_nothing_is_left_after_the_block(tmp_path: Path) -> None:
    import threading

    from torch.utils.data import dataloader

    own = dataloader._BaseDataLoaderIter.__next__
    with mfu_doctor.profile(tmp_path / "run.json", print_report=False, skip=0, timed=0, warmup=0) as doctor:
        for _ in range(40):
            doctor.step()
        assert any(thread.name == "mfu-doctor-run" for thread in threading.enumerate())
    assert dataloader._BaseDataLoaderIter.__next__ is own
    assert not any(thread.name.startswith("mfu-doctor") for thread in threading.enumerate())
