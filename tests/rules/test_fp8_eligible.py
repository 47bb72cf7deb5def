"""fp8-eligible: priced by the fp8 roofline with its casts, and withheld whatever the price."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.fp8_eligible import fp8_eligible
from tests.rules.drawing import TENSOR
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

N = 8192
BF16_PEAK, FP8_PEAK, BANDWIDTH = 989.4e12, 1979e12, 3350e9  # H100 SXM
FLOPS = 2 * N**3


def loop(size: int = N, *, device: str = "NVIDIA H100 80GB HBM3", types: str = "c10::BFloat16", us: int = 2_000) -> Run:
    drawn = Timeline(device=device, sms=132)
    told: dict[str, Any] = {"dims": [[size, size], [size, size]], "types": [types, types]}
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=us, kernel_name=TENSOR, **told)
    return run_of(drawn)


def test_large_products_are_priced_by_the_fp8_roofline_and_their_casts() -> None:
    price = price_us(fp8_eligible, loop())
    moved = 3 * N * N * 2 / BANDWIDTH * 1e6
    efficiency = FLOPS / BF16_PEAK / 2e-3
    ideal = FLOPS / FP8_PEAK / efficiency * 1e6
    assert price.high_ns == close(2_000 - ideal)
    assert price.mid_ns == close(2_000 - ideal / 0.85 - moved)
    assert price.low_ns == close(2_000 - ideal / 0.7 - moved * 5 / 3)


def test_it_is_always_withheld() -> None:
    assert "convergence" in (found(fp8_eligible, loop()).withhold or "")


@pytest.mark.parametrize(
    "run",
    [loop(device="NVIDIA A100-SXM4-80GB"), loop(512, us=50), loop(N + 8)],
    ids=["no fp8", "small", "no multiple of 16"],
)
def test_what_fp8_cannot_speed_up_is_no_finding(run: Run) -> None:
    assert fp8_eligible.judge(run) is None
