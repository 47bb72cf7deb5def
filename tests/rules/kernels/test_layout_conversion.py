"""layout-conversion: kernels that only convert are priced at their time."""

from __future__ import annotations

from mfu_doctor.rules.kernels.layout_conversion import layout_conversion
from tests.rules.drawing import POINTWISE, between
from tests.rules.judging import close, price_us, run_of, silent


def test_layout_conversions_are_priced_at_their_time() -> None:
    kernel = (
        "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>(cudnn::ops::nchw2nhwc_params_t<float>)"
    )
    price = price_us(layout_conversion, run_of(between(("aten::cudnn_convolution", 200, kernel))))
    assert price.high_ns == close(200)
    assert price.low_ns == close(100)
    silent(layout_conversion, run_of(between(("aten::add", 200, POINTWISE))))
