"""allocator-churn, ungraphed-steps, uncompiled, outlier-steps, needless-grad-scaler."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.allocator_churn import allocator_churn
from mfu_doctor.rules.host.needless_grad_scaler import needless_grad_scaler
from mfu_doctor.rules.host.outlier_steps import outlier_steps
from mfu_doctor.rules.host.uncompiled import uncompiled
from mfu_doctor.rules.host.ungraphed_steps import ungraphed_steps
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline


def allocating(us: int, calls: int, name: str = "cudaMalloc", kernel: int = 1_000) -> Timeline:
    def body(drawn: Timeline) -> None:
        for _ in range(calls):
            drawn.call(name, us, correlation=drawn._id())
        compute(drawn, kernel)
        drawn.sync()

    return steps(body)


def test_driver_allocations_that_the_device_waits_for_are_priced_at_their_length() -> None:
    price = price_us(allocator_churn, run_of(allocating(500, 4)))
    assert price.mid_ns == close(2_000)
    assert price.low_ns == close(1_000)


def test_frees_point_to_empty_cache() -> None:
    assert "empty_cache" in found(allocator_churn, run_of(allocating(500, 4, "cudaFree"))).fix


def test_a_settled_allocator_is_no_finding() -> None:
    assert allocator_churn.judge(run_of(allocating(0, 0))) is None


def launching(step: int, drawn: Timeline, *, wait: bool = False, vary: bool = False) -> None:
    for i in range(100):
        drawn.op("aten::mm", kernel=10, host=40, grid=[100 + (step if vary else 0), 1, 1])
        if wait and i == 50:
            drawn.item()


def launches(**how: bool) -> Timeline:
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            launching(step, drawn, **how)
    return drawn


def test_equal_steps_without_waits_are_proposed_as_a_graph() -> None:
    # 4 ms of launching for 1 ms of kernels: with 5 % of the host time the device decides; low end: L (1 - r), L = 3 ms
    price = price_us(ungraphed_steps, run_of(launches()))
    assert price.mid_ns == close(3_000)
    assert price.low_ns == close(3_000 * 0.7)


def test_the_reason_why_a_graph_does_not_fit_is_given() -> None:
    waiting, varying = (
        ungraphed_steps.judge(run_of(launches(wait=True))),
        ungraphed_steps.judge(run_of(launches(vary=True))),
    )
    assert isinstance(waiting, Skip)
    assert "synchronisation" in waiting.reason
    assert isinstance(varying, Skip)
    assert "differ from step to step" in varying.reason


def test_a_device_that_never_waits_needs_no_graph() -> None:
    assert ungraphed_steps.judge(run_of(steps(lambda drawn: compute(drawn, 5_000)))) is None


def test_eager_launching_is_priced_as_a_compiler_would_leave_it() -> None:
    price = price_us(uncompiled, run_of(launches()))
    assert price.low_ns == close(3_000 * 0.3)
    assert price.mid_ns == close(4_000 * 0.5)


def test_the_steps_that_earn_compiling_back_are_counted() -> None:
    # 2 ms saved a step: half a minute is 15,000 of them
    detail = found(uncompiled, run_of(launches())).detail or ""
    few, many = (int(n.replace(",", "")) for n in detail.removesuffix(" steps").split("after ")[1].split(" to "))
    assert few == pytest.approx(30 / 0.002, rel=0.02)
    assert many == pytest.approx(180 / 0.002, rel=0.02)


def test_compiled_code_is_no_finding() -> None:
    def body(drawn: Timeline) -> None:
        for _ in range(100):
            drawn.op("triton", kernel=10, host=40, kernel_name="triton_poi_fused_add_0")

    assert uncompiled.judge(run_of(steps(body))) is None


def saving(pause: int) -> Timeline:
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            compute(drawn, 1_000)
            drawn.sync()
            if step == 6:
                drawn.python(pause)
    return drawn


def test_a_step_that_writes_a_checkpoint_is_priced_per_recorded_step() -> None:
    price = price_us(outlier_steps, run_of(saving(20_000)))
    assert price.mid_ns == close(20_000 / 10)


def test_equal_steps_are_no_outliers() -> None:
    assert outlier_steps.judge(run_of(saving(0))) is None


def scaling(dtype: str) -> Any:
    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        drawn.op("aten::_amp_foreach_non_finite_check_and_unscale_", kernel=300, kernel_name=POINTWISE)
        drawn.item()
        drawn.op("aten::_fused_adam_", kernel=400, host=600)

    return run_of(steps(body), precision=PrecisionFacts(autocast_dtype=dtype))


def test_a_grad_scaler_under_bf16_is_priced_with_its_check_and_its_wait() -> None:
    # the check (300) goes, and with the wait gone the optimizer is issued (600) while the device still computes
    price = price_us(needless_grad_scaler, scaling("torch.bfloat16"))
    assert price.low_ns == close(300)
    assert price.high_ns > 300 + 500


def test_a_grad_scaler_under_fp16_is_needed() -> None:
    assert needless_grad_scaler.judge(scaling("torch.float16")) is None
