"""late-optimizer: what has its gradients early fits into the exposed reduction, unless something needs all gradients."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.communication.late_optimizer import late_optimizer
from mfu_doctor.rules.contract import Skip
from tests.rules.drawing import COMMUNICATION, POINTWISE, collective, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

MILLION = 1 << 20


def loop(exposed: int, update: int, *, last: int = MILLION, clip: bool = False) -> Run:
    """Per step 3 ms of computation beside 3 of 4 equal reductions, the last one exposed, then the optimizer."""

    def body(drawn: Timeline) -> None:
        with drawn.span("DistributedDataParallel.forward"):
            compute(drawn, 1_000)
        collective(drawn, 1_000, size=3 * MILLION)
        compute(drawn, 2_000)
        collective(drawn, exposed, size=last)
        drawn.call("cudaStreamWaitEvent", 2)
        if clip:
            drawn.op("aten::_foreach_norm", kernel=5, ready=drawn.free[COMMUNICATION])
        with drawn.span("Optimizer.step#AdamW.step"):
            drawn.op("aten::_fused_adamw_", kernel=update, ready=drawn.free[COMMUNICATION], kernel_name=POINTWISE)
        drawn.sync("cudaDeviceSynchronize")

    return run_of(steps(body))


def test_the_smaller_of_exposed_time_and_movable_work_is_hidden() -> None:
    # a quarter of the gradients travel last, so three quarters of the optimizer can move
    price = price_us(late_optimizer, loop(exposed=800, update=400))
    assert price.high_ns == close(0.75 * 400)
    assert price.low_ns == close(0.75 * 400 / 2)
    price = price_us(late_optimizer, loop(exposed=200, update=2_000))
    assert price.high_ns == close(200)
    assert "75 % of its work" in (found(late_optimizer, loop(exposed=200, update=2_000)).detail or "")


def test_a_reduction_that_is_all_there_is_leaves_nothing_to_move() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("DistributedDataParallel.forward"):
            compute(drawn, 1_000)
        collective(drawn, 500, size=MILLION)
        with drawn.span("Optimizer.step#AdamW.step"):
            drawn.op("aten::_fused_adamw_", kernel=300, ready=drawn.free[COMMUNICATION])
        drawn.sync("cudaDeviceSynchronize")

    silent(late_optimizer, run_of(steps(body)))


def test_clipping_needs_all_gradients() -> None:
    outcome = late_optimizer.judge(loop(exposed=800, update=400, clip=True))
    assert isinstance(outcome, Skip)
    assert "clipping" in outcome.reason


def test_hidden_reductions_are_no_finding() -> None:
    silent(late_optimizer, loop(exposed=1, update=400))
