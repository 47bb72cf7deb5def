"""ignored-rows: what is computed for ignored targets shrinks in proportion, from the last product to its gradients."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.facts.wasted_work import IgnoredTargets
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.ignored_rows import ignored_rows
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

# Each step has three nodes, of which the first is the encoder's.
OF_THE_LOSS = tuple(number for number in range(60) if number % 3)
SQUARE: dict[str, Any] = {"dims": [[64, 64], [64, 64]], "types": ["float", "float"]}
LOSS = IgnoredTargets(targets=2000, ignored=1600, losses=2, least=0.8, sequence=OF_THE_LOSS)


def node(drawn: Timeline, name: str, us: int, sequence: int, *, device: bool) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op", sequence=sequence):
        drawn.python(1)
        drawn.op("aten::mm", kernel=us if device else None, host=10 if device else us, **SQUARE)


def masked_model(*, device: bool, loss: tuple[str, dict[str, Any]] = ("aten::nll_loss_forward", {})) -> Timeline:
    """An encoder of 3,000 us and a head with its loss of 4,000 us, forward and backward."""

    numbers = count()

    def body(drawn: Timeline) -> None:
        encoder, head, last = (next(numbers) for _ in range(3))
        times: dict[str, Any] = {"kernel": 1000, "host": 10} if device else {"host": 1000}
        drawn.op("aten::mm", sequence=encoder, **SQUARE, **times)
        drawn.op("aten::mm", sequence=head, **SQUARE, **times)
        drawn.op(loss[0], sequence=last, **loss[1], **times)
        node(drawn, "NllLossBackward0", 1000, last, device=device)
        node(drawn, "AddmmBackward0", 1000, head, device=device)
        node(drawn, "AddmmBackward0", 2000, encoder, device=device)

    return steps(body, device=device)


def told(*losses: IgnoredTargets, device: bool = False) -> Run:
    return run_of(masked_model(device=device), ignored_targets=losses)


@pytest.mark.parametrize("device", [False, True])
def test_ignored_rows_are_priced_in_proportion(device: bool) -> None:
    price = price_us(ignored_rows, told(LOSS, device=device))
    assert price.mid_ns == close(0.8 * 4000)
    assert price.high_ns == close(0.8 * 3000 + 1000)  # the loss itself does no products
    assert price.low_ns == close(0.75 * 0.8 * 4000)
    assert "ignores 80 % of its 1,000 targets" in found(ignored_rows, told(LOSS)).summary


def test_their_products_are_no_work_of_the_model() -> None:
    """Each product of the head loses four fifths of its FLOPs."""
    run = told(LOSS)
    assert found(ignored_rows, run).needless_flops == pytest.approx(0.8 * 3 * 2 * 64**3)


def test_the_low_end_is_that_of_the_pass_which_ignores_the_fewest() -> None:
    some = IgnoredTargets(targets=2000, ignored=1600, losses=2, least=0.2, sequence=OF_THE_LOSS)
    assert price_us(ignored_rows, told(some)).low_ns == close(0.75 * 0.2 * 4000)


def test_few_ignored_targets_are_no_finding() -> None:
    silent(ignored_rows, told(IgnoredTargets(targets=2000, ignored=10, losses=2, sequence=OF_THE_LOSS)))
    silent(ignored_rows, told())


def test_a_run_in_which_nothing_was_counted_is_not_judged() -> None:
    assert isinstance(ignored_rows.judge(run_of(masked_model(device=False), site="train.py:1")), Skip)


@pytest.mark.parametrize(("rows", "kept"), [(1_024, 0.4), (512, 1.0), (8_192, 1.0)])
def test_logits_that_are_no_longer_mapped_anew_move_at_the_bandwidth(rows: int, kept: float) -> None:
    """Of 64 MiB a fifth is left, in memory that the process keeps; of 32 MiB it did so before, and of 512 MiB it never does."""
    logits = {"dims": [[rows, 16_384], [], []], "types": ["float", "Scalar", "Scalar"]}
    bandwidth = 2 * rows * 16_384 * 4 / 400e-6  # read and written in 400 of the 1,000 us
    peak = MeasuredPeak(dtype="float32", flops=200e9, threads=2, bandwidth_bytes_s=bandwidth, how="a test")
    drawn = masked_model(device=False, loss=("aten::_log_softmax", logits))
    price = price_us(ignored_rows, run_of(drawn, ignored_targets=(LOSS,), measured_peaks=(peak,)))
    assert price.mid_ns == close(0.8 * 3000 + (1.0 - 0.2 * kept) * 1000)
