"""dropped-events: a file that lost events is said, a repaired one is not."""

from __future__ import annotations

from dataclasses import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.trace.dropped_events import dropped_events
from mfu_doctor.trace import Problem
from tests.rules.judging import caution, silent
from tests.rules.trace.drawing import loop


def test_dropped_events() -> None:
    trace = replace(loop().trace(), problems=(Problem("truncated", "the file ends inside event 900", 0),))
    assert caution(dropped_events, Run(trace)) == "The end of the trace is missing"
    inside = replace(trace, problems=(Problem("truncated", "the file ends inside event 900", 1),))
    assert caution(dropped_events, Run(inside)) == "The end of the trace is missing"  # not "lost 1 event"
    both = replace(trace, problems=(*trace.problems, Problem("events-dropped", "3 damaged events", 3)))
    assert caution(dropped_events, Run(both)) == "The end of the trace is missing and it has lost 3 events"
    dropped = replace(trace, problems=both.problems[1:])
    assert caution(dropped_events, Run(dropped)) == "The trace has lost 3 events"
    repaired = replace(trace, problems=(Problem("events-repaired", "an unescaped quote", 3),))
    silent(dropped_events, Run(repaired))
