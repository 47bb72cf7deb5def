"""`mfu-doctor run --live`: lines of an unchanged program, and the step that is recorded as the user asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from tests.capture.programs import PRELUDE, STEP, TRACE, ours, read, with_and_without
from tests.capture.zygote import Zygote

TRAIN = (
    PRELUDE
    + """
if "scaled" in sys.argv:
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
for i, (x, y) in enumerate(loader(60)):
    loss = forward(x, y)
    if "scaled" in sys.argv:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    else:
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    print("loss", loss.item().hex())
"""
)

RUN = """
import sys
from mfu_doctor.session import run_script
options = run_script.RunOptions(
    output="out.pt.trace.json.gz", print_report=False, live=10, live_file="lines.jsonl", peak_flops=1e9
)
sys.exit(run_script.run_script("training.py", sys.argv[1:], options=options))
"""

LATER = """
with block(at_step=34) as doctor:
    for epoch in range(6):
        for x, y in loader(10):
            train(x, y)
"""

_LINE = re.compile(r"iter (\d+): loss (\S+), time (\S+), mfu (\S+)")


@pytest.mark.parametrize("kind", ["plain", "scaled"])
def test_lines_are_those_of_the_program_that_runs_unchanged(zygote: Zygote, tmp_path: Path, kind: str) -> None:
    (tmp_path / "training.py").write_text(TRAIN)
    alone = zygote.run(TRAIN, tmp_path, kind)
    ran = zygote.run(RUN, tmp_path, kind)
    assert ran.code == 0, ran.err
    assert ran.losses == alone.losses
    lines = _LINE.findall(ran.err)
    assert [int(number) for number, *_ in lines] == [0, 10, 20, 30, 40, 50]
    exact = [float.fromhex(line.split()[1]) for line in ran.losses]
    assert [loss for _, loss, *_ in lines] == [f"{exact[i]:.4f}" for i in range(0, 60, 10)]


def test_the_file_has_the_same_lines_and_mfu_once_steps_were_recorded(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(TRAIN)
    ran = zygote.run(RUN, tmp_path, "plain")
    rows = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [row["iter"] for row in rows] == [0, 10, 20, 30, 40, 50]
    first, last = rows[0], rows[-1]
    assert (first["mfu"], first["reason"]) == (None, "the recorded steps have not been counted yet")
    assert last["mfu"] == pytest.approx(STEP / 1e9 / last["time_s"], rel=1e-3)
    assert _LINE.findall(ran.err)[-1][3] == f"{last['mfu']:.2%}"
    assert "mfu-doctor 0." not in ran.err  # no report was asked for


@pytest.mark.parametrize("live", ["1", "None"])
def test_recorded_steps_hold_only_what_the_program_reads(zygote: Zygote, tmp_path: Path, live: str) -> None:
    """The labels of four samples and the loss that it prints."""
    (tmp_path / "training.py").write_text(TRAIN)
    ran = zygote.run(RUN.replace('live=10, live_file="lines.jsonl"', f"live={live}"), tmp_path, "plain")
    assert ran.code == 0, ran.err
    written = read(tmp_path / TRACE)
    reads = [event["ts"] for event in written.named("aten::item")]
    marks = [
        mark for mark in written.events if mark.get("cat") == "user_annotation" and "ProfilerStep#" in mark["name"]
    ]
    assert len(marks) == 6
    assert [sum(mark["ts"] <= at < mark["ts"] + mark["dur"] for at in reads) for mark in marks] == [5] * 6


def test_a_file_that_holds_something_else_is_left_alone(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(TRAIN)
    (tmp_path / "lines.jsonl").write_text("import torch\n")
    ran = zygote.run(RUN, tmp_path, "plain")
    assert ran.code != 0
    assert "lines.jsonl holds something else" in ran.err
    assert (tmp_path / "lines.jsonl").read_text() == "import torch\n"


def test_the_step_that_was_asked_for_is_recorded_in_whatever_epoch(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, LATER)
    facts = ours(tmp_path).facts
    assert facts.asked is not None
    assert (facts.asked.at_step, facts.asked.skip) == (34, 26)
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
    assert facts.recorded is not None
    assert facts.recorded.skip == 26


def test_a_step_that_comes_too_early_is_refused() -> None:
    import mfu_doctor

    with pytest.raises(mfu_doctor.DoctorError, match="8 steps are timed or warm the profiler up before it"):
        mfu_doctor.profile(at_step=7)


def test_a_file_that_cannot_be_written_is_refused_before_the_training(tmp_path: Path) -> None:
    from mfu_doctor.errors import DoctorError
    from mfu_doctor.session.live import Live

    with pytest.raises(DoctorError, match="cannot be written"):
        Live(5, tmp_path / "missing" / "lines.jsonl")
