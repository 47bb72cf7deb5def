"""dropped-events: a file that lost events is said, a repaired one is not."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.trace.dropped_events import dropped_events
from mfu_doctor.trace import Problem
from tests.rules.judging import caution, found, silent
from tests.rules.trace.drawing import loop
from tests.timeline import Timeline


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


def test_a_cut_file_without_a_sign_of_the_device_gets_no_advice() -> None:
    """The first 20 kB of a trace of an H100 read as a run on a CPU, bound by Python: kernels come last in a file."""
    drawn = Timeline(device=None)
    with drawn.step():
        drawn.op("aten::slice", host=20)
    cut = replace(drawn.trace(), problems=(Problem("truncated", "the file ends inside event 900", 1),))
    told = found(dropped_events, Run(cut))
    assert told.summary == "The end of the trace is missing: whether this run used a GPU is not known"
    assert told.spoils == "advice"
    drawn.op("mkldnn::_linear_pointwise", host=20)
    on_cpu = replace(drawn.trace(), problems=cut.problems)
    assert found(dropped_events, Run(on_cpu)).spoils == "figures"
