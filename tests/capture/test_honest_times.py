"""Which moments and which steps the stated time is made of: a step ends when it was over, and odd steps are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.destination import Destination
from mfu_doctor.capture.export.assemble import timed_rows
from mfu_doctor.capture.loop.edges import Source
from mfu_doctor.capture.loop.schedule import Phase
from mfu_doctor.capture.loop.stopwatch import Mark, mark
from mfu_doctor.capture.profiler.other_profilers import active_profiler
from mfu_doctor.capture.profiler.phase_runner import PhaseRunner
from mfu_doctor.capture.profiler.recording import StepRow
from mfu_doctor.capture.seen import Request
from mfu_doctor.facts import GivenNumbers, Schedule

ASKED = Schedule(skip=1, timed=4, warmup=1, active=2)
MS = 1_000_000


def ignore(_: object) -> None:
    """Nobody listens."""


def test_a_step_that_was_over_before_its_cut_ends_when_it_was_over() -> None:
    """The loop is left by `break` and the script goes on inside the block: saving a checkpoint is no part of the step."""
    phase_runner = PhaseRunner(asked=ASKED, notes=Notes(), enter=ignore, leave=ignore)
    phase_runner.begin()
    over = mark()
    phase_runner.end(1, over)
    phase_runner.begin()
    phase_runner.end(1)
    first, second = phase_runner.rows
    assert first.end is over
    assert second.end.host_ns >= second.start.host_ns >= over.host_ns


def capture_of(tmp_path: Path, rows: list[StepRow]) -> Capture:
    """A capture whose loop made these steps."""
    request = Request(asked=ASKED, destination=Destination.of(tmp_path / "x.json"), site="here", given=GivenNumbers())
    capture = Capture(request, ignore, ignore)
    capture.detector.source = Source.OPTIMIZER
    capture.phase_runner.rows[:] = rows
    return capture


def row(index: int, phase: Phase, *, ms: int = 10, fetches: int = 1, recorded: bool = False) -> StepRow:
    start = index * 1_000 * MS
    return StepRow(phase, index, Mark(start), Mark(start + ms * MS), fetches, recorded)


def test_a_step_that_fetched_more_often_than_the_others_is_not_timed(tmp_path: Path) -> None:
    """An epoch ended in it, or a validation loop ran: 500 ms are not what a step takes."""
    rows = [row(0, Phase.SKIP), *(row(i, Phase.TIMED, fetches=4) for i in (1, 2, 3))]
    rows.append(row(4, Phase.TIMED, ms=500, fetches=30))
    found = timed_rows(capture_of(tmp_path, rows))
    assert [step.index for step in found] == [1, 2, 3]


def test_where_too_few_steps_were_timed_warm_plain_ones_help(tmp_path: Path) -> None:
    """The first step is cold, one in the warm-up has the profiler attached, and a recorded one is slowed by it."""
    rows = [
        row(0, Phase.SKIP, ms=900),
        row(1, Phase.SKIP),
        row(2, Phase.TIMED),
        row(3, Phase.WARMUP, ms=40),
        row(4, Phase.TIMING, ms=30, recorded=True),
        row(5, Phase.REST),
    ]
    assert [step.index for step in timed_rows(capture_of(tmp_path, rows))] == [1, 2, 5]


def test_a_daemon_that_may_start_the_profiler_at_any_time_forbids_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions in one process crash it, and this one would start without a word to Python."""
    monkeypatch.setenv("KINETO_USE_DAEMON", "1")
    assert "KINETO_USE_DAEMON" in str(active_profiler())
