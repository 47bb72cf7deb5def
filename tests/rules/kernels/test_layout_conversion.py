"""layout-conversion: kernels that only convert are priced at their time."""

from __future__ import annotations

from mfu_doctor.rules.kernels.layout_conversion import layout_conversion
from tests.rules.drawing import POINTWISE, between
from tests.rules.judging import close, found, price_us, run_of, silent


def test_layout_conversions_are_priced_at_their_time() -> None:
    kernel = (
        "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>(cudnn::ops::nchw2nhwc_params_t<float>)"
    )
    price = price_us(layout_conversion, run_of(between(("aten::cudnn_convolution", 200, kernel))))
    assert price.high_ns == close(200)
    assert price.low_ns == close(100)
    silent(layout_conversion, run_of(between(("aten::add", 200, POINTWISE))))


def test_miopen_takes_channels_last_only_if_it_is_asked_to() -> None:
    """Without the variable PyTorch hands it NCHW whatever the memory format is: followed alone, the advice only added copies."""
    by_miopen = run_of(between(("aten::miopen_convolution", 200, "batched_transpose_32x32_half.kd")))
    assert found(layout_conversion, by_miopen).fix.startswith('os.environ["PYTORCH_MIOPEN_SUGGEST_NHWC"] = "1"')
    by_cudnn = run_of(between(("aten::cudnn_convolution", 200, "void cudnn::ops::nchwToNhwcKernel<float>")))
    assert "MIOPEN" not in found(layout_conversion, by_cudnn).fix


def test_a_kernel_that_fills_or_scales_converts_nothing() -> None:
    silent(layout_conversion, run_of(between(("aten::miopen_convolution", 200, "SubTensorOpWithScalar1d.kd"))))
