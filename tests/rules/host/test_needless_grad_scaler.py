"""needless-grad-scaler: under bf16 the check and its wait go; fp16 needs them."""

from __future__ import annotations

from typing import Any

from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.host.needless_grad_scaler import needless_grad_scaler
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


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
    silent(needless_grad_scaler, scaling("torch.float16"))
