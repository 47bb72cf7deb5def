"""repeated-work: calls whose result is known take their part of the time of their operator on these shapes."""

from __future__ import annotations

from itertools import count
from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import OperatorFacts, OperatorResults
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.repeated_work import repeated_work
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

MASK: dict[str, Any] = {"dims": [[64, 64], []], "types": ["float", "Scalar"]}
LAYER: dict[str, Any] = {"dims": [[64], [64, 64], [64, 64]], "types": ["float", "float", "float"]}
JOIN: dict[str, Any] = {"dims": [[[64, 64], [64, 8]], []], "types": ["TensorList", "Scalar"]}
DIMS = ((64, 64),)
GAP = 50


def network() -> Timeline:
    """Two layers, each with a mask of 500 us, a product of 1,000 us and its backward of 2,000 us."""
    numbers = count()

    def body(drawn: Timeline) -> None:
        layers = [next(numbers), next(numbers)]
        for layer in layers:
            drawn.op("aten::exp", host=500, **MASK)
            drawn.python(GAP)
            drawn.op("aten::addmm", host=1000, sequence=layer, **LAYER)
        drawn.op("aten::cat", host=300, **JOIN)
        for layer in reversed(layers):
            with drawn.span("autograd::engine::evaluate_function: AddmmBackward0", "cpu_op", sequence=layer):
                drawn.python(1)
                drawn.op("aten::mm", host=1500, dims=[[64, 64], [64, 64]], types=["float", "float"])
                drawn.op("aten::exp", host=500, **MASK)  # the same shapes in backward are another matter

    return steps(body, device=False)


def told(*results: OperatorResults) -> Run:
    return run_of(network(), operators=OperatorFacts(results=results))


def exp(**counts: int) -> OperatorResults:
    return OperatorResults(operator="aten::exp", dims=DIMS, place="model.py:7", calls=2, **counts)


def addmm(**counts: int) -> OperatorResults:
    return OperatorResults(operator="aten::addmm", dims=((64,), *DIMS, *DIMS), place="model.py:9", calls=2, **counts)


def test_a_mask_that_each_layer_builds_anew_is_needless_but_once() -> None:
    run = told(exp(again=1))
    assert price_us(repeated_work, run).mid_ns == close(500)
    assert "once per step" in found(repeated_work, run).fix
    assert found(repeated_work, run).place == "model.py:7"


def test_a_mask_that_never_changes_is_needless_in_each_step() -> None:
    run = told(exp(again=1, constant=1))
    assert price_us(repeated_work, run).low_ns == close(1000)
    assert "register_buffer" in found(repeated_work, run).fix


def test_a_layer_that_runs_twice_has_a_backward_pass_for_each() -> None:
    price = price_us(repeated_work, told(addmm(again=1)))
    assert (price.low_ns, price.mid_ns) == (close(1000), close(3000))


def test_results_that_all_differ_are_no_finding() -> None:
    silent(repeated_work, told())
    silent(repeated_work, told(exp(unread=2)))
    silent(repeated_work, told(OperatorResults(operator="aten::exp", dims=((9, 9),), calls=1, again=1)))
    assert isinstance(repeated_work.judge(run_of(network(), site="train.py:1")), Skip)
