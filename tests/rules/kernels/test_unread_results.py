"""unread-results: calls whose result nothing reads take their part of the time of forward."""

from __future__ import annotations

from mfu_doctor.facts.wasted_work import OperatorResults
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.repeated_work import repeated_work
from mfu_doctor.rules.kernels.unread_results import unread_results
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.kernels.test_repeated_work import GAP, addmm, exp, network, told


def test_a_head_that_nothing_reads_takes_its_forward_pass() -> None:
    run = told(addmm(unread=1))
    assert price_us(unread_results, run).low_ns == close(1000)
    assert found(unread_results, run).place == "model.py:9"
    silent(repeated_work, run)


def test_a_loss_that_is_multiplied_by_zero_has_a_backward_pass_too() -> None:
    run = told(addmm(unread=1, zeroed=1))
    assert price_us(unread_results, run).low_ns == close(3000)
    assert "if weight > 0" in found(unread_results, run).fix
    assert "if self.extra" in found(unread_results, told(addmm(unread=1))).fix


def test_the_python_between_two_operators_that_go_goes_too() -> None:
    run = told(addmm(unread=2), exp(unread=2))
    price = price_us(unread_results, run)
    assert price.low_ns == close(3000)
    assert price.mid_ns == close(3000 + 2 * GAP)


def test_tensors_in_a_list_have_shapes_too() -> None:
    joined = OperatorResults(operator="aten::cat", dims=((64, 64), (64, 8)), calls=1, unread=1)
    assert price_us(unread_results, told(joined)).low_ns == close(300)


def test_results_that_are_read_are_no_finding() -> None:
    silent(unread_results, told())
    silent(unread_results, told(addmm(again=1)))
    silent(unread_results, told(OperatorResults(operator="aten::exp", dims=((9, 9),), calls=1, unread=1)))
    assert isinstance(unread_results.judge(run_of(network(), site="train.py:1")), Skip)
