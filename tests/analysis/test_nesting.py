"""Nesting: a step mark that begins just before the optimizer's span of the last step ends stands beside it, not inside."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Trace
from tests.timeline import Timeline


def parents(trace: Trace) -> dict[str, str | None]:
    """Name of the parent of each operator and span, by its own name."""
    tree = Run(trace).ops.parent.tolist()
    return {trace.name_of(i): trace.name_of(up) if up >= 0 else None for i, up in enumerate(tree)}


def test_a_step_mark_does_not_become_part_of_the_optimizers_span_that_it_overlaps() -> None:
    drawn = Timeline(device=None)
    drawn.add("user_annotation", "Optimizer.step#SGD.step", 0, 100)
    drawn.add("cpu_op", "aten::add_", 10, 50)
    drawn.add("user_annotation", "ProfilerStep#1", 80, 400)
    drawn.add("cpu_op", "aten::mm", 120, 100)
    found = parents(drawn.trace())
    assert found["aten::add_"] == "Optimizer.step#SGD.step"
    assert found["aten::mm"] == "ProfilerStep#1"
    assert found["ProfilerStep#1"] is None


def test_a_child_that_outlives_its_parent_by_a_rounding_stays_its_child() -> None:
    drawn = Timeline(device=None)
    drawn.add("user_annotation", "ProfilerStep#1", 0, 100)
    drawn.add("user_annotation", "Optimizer.step#SGD.step", 50, 51)
    drawn.add("cpu_op", "aten::add_", 60, 41)
    found = parents(drawn.trace())
    assert found["Optimizer.step#SGD.step"] == "ProfilerStep#1"
    assert found["aten::add_"] == "Optimizer.step#SGD.step"
