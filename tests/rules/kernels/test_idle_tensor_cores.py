"""idle-tensor-cores: silent where tensor activity and counted FLOPs agree, a hint where they are five points apart."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.idle_tensor_cores import idle_tensor_cores
from tests.analysis.test_mfu import BF16_GEMM, FP32_GEMM, product, shapeless, steps_of
from tests.rules.judging import found, silent
from tests.rules.sampling import sampled_run
from tests.timeline import Timeline

BF16_SECOND = 989_400_000_000_000  # FLOP of an H100 in one second at its peak
TF32_SECOND = 494_700_000_000_000
FP32_SECOND = 66_910_000_000_000
TF32_GEMM = "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n_tilesize128x128x32"


def half(t: Timeline) -> None:
    """Half of a step of two seconds at the bf16 peak."""
    product(t, BF16_SECOND, BF16_GEMM, dtype="c10::BFloat16")


def hopper(active: float | None, draw: Any = half, **readings: Any) -> Run:
    """Steps of two seconds on an H100 whose tensor cores were active in this share (percent) of the time."""
    return sampled_run(drawn=steps_of(2, draw), tensor_active=(active,) * 20, **readings)


@pytest.mark.parametrize("active", [46.0, 50.0, 54.0])
def test_two_measurements_that_agree_are_no_finding(active: float) -> None:
    silent(idle_tensor_cores, hopper(active))


@pytest.mark.parametrize(
    ("active", "detail"), [(60.0, "a FLOP formula is missing"), (40.0, "some counted FLOPs did not")]
)
def test_a_disagreement_is_a_hint_without_a_price(active: float, detail: str) -> None:
    finding = found(idle_tensor_cores, hopper(active))
    assert finding.change is None
    assert finding.confidence == "hint"
    assert finding.detail is not None
    assert finding.detail.startswith(detail)
    numbers = {e.name: e.value for e in finding.evidence}
    assert numbers["tensor cores active"] == pytest.approx(active / 100)
    assert numbers["expected from counted FLOPs"] == numbers["HFU"] == pytest.approx(0.5)


def test_formats_count_by_their_own_peak() -> None:
    """HFU of a TF32 product is half of its tensor activity, because bf16 is the reference: no disagreement."""
    run = hopper(50.0, lambda t: product(t, TF32_SECOND, TF32_GEMM))
    assert run.mfu.report.hfu == pytest.approx(0.25)
    silent(idle_tensor_cores, run)


def test_products_off_the_tensor_cores_are_not_expected_on_them() -> None:
    run = hopper(0.0, lambda t: product(t, 2 * FP32_SECOND, FP32_GEMM))
    assert run.mfu.report.hfu is not None
    assert run.mfu.report.hfu > 0.05
    silent(idle_tensor_cores, run)


def test_a_slower_clock_keeps_tensor_cores_busy_for_longer() -> None:
    silent(idle_tensor_cores, hopper(62.5, sm_mhz=(1464.0,) * 20))  # 0.5 * 1830 / 1464
    assert found(idle_tensor_cores, hopper(50.0, sm_mhz=(1464.0,) * 20))


def test_idle_samples_do_not_count() -> None:
    active, busy = (50.0,) * 10 + (0.0,) * 10, (99.0,) * 10 + (0.0,) * 10
    silent(idle_tensor_cores, sampled_run(drawn=steps_of(2, half), tensor_active=active, util_gpu=busy))


def test_what_it_needs_is_said() -> None:
    assert idle_tensor_cores.judge(hopper(None)) == Skip("measuring tensor core activity needs Hopper or newer")
    assert idle_tensor_cores.judge(sampled_run(drawn=steps_of(2, half))) == Skip(
        "measuring tensor core activity needs Hopper or newer"
    )
    assert isinstance(idle_tensor_cores.judge(hopper(50.0, shapeless)), Skip)
    assert isinstance(idle_tensor_cores.judge(hopper(50.0, util_gpu=(0.0,) * 20)), Skip)
