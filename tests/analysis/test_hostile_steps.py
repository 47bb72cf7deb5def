"""Steps that cannot be, and more of something than a program has."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.analysis.views.nesting import DEEPEST, nest_ops
from mfu_doctor.analysis.views.steps import MOST_STEPS
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.errors import DoctorError
from mfu_doctor.trace import Trace
from tests.reading.test_edges import read
from tests.reading.test_impossible_values import op


def marked(*marks: tuple[int | str, float, float]) -> Trace:
    steps = [op(ts, dur, cat="user_annotation", name=f"ProfilerStep#{number}") for number, ts, dur in marks]
    return read(*steps, *(op(ts + 1, 5, name="aten::mm") for _, ts, _ in marks))


@pytest.mark.parametrize("number", [10**18, 10**20, "١٢"])
def test_a_number_that_is_none_marks_no_step(number: int | str) -> None:
    run = Run(marked((number, 100, 50), (number, 200, 50)), Options())
    assert run.steps.source == "whole trace"


def test_steps_of_no_length_are_no_steps() -> None:
    run = Run(marked((1, 100, 0), (2, 100, 0), (3, 100, 50), (4, 200, 50), (5, 300, 50)), Options())
    assert run.steps.number.tolist() == [3, 4, 5]
    assert (run.steps.duration > 0).all()


def test_without_a_step_of_length_the_whole_trace_is_one() -> None:
    run = Run(marked((1, 100, 0), (2, 100, 0)), Options())
    assert run.steps.source == "whole trace"
    assert diagnose_run(run).report.run.steps == 1


def test_more_steps_than_can_be_listed_are_refused_until_some_are_chosen() -> None:
    trace = marked(*((i, 100 + 10 * i, 9) for i in range(MOST_STEPS + 1)))
    with pytest.raises(DoctorError, match=r"20,001 steps are more than .* choose some with --steps 0:2000"):
        _ = Run(trace, Options()).steps
    assert Run(trace, Options(steps=(0, 20))).steps.count == 20


@pytest.mark.parametrize("shrinking", [1, 0], ids=["nested", "at one instant"])
def test_what_climbs_out_of_the_deepest_operators_takes_few_rounds(shrinking: int) -> None:
    count = 4 * DEEPEST
    tree = nest_ops(read(*(op(i * shrinking, 10_000 - 2 * i * shrinking) for i in range(count))))
    depth = [len(tree.ancestors(row)) for row in range(count)]
    assert depth[: DEEPEST + 1] == list(range(DEEPEST + 1))
    assert max(depth) == DEEPEST
