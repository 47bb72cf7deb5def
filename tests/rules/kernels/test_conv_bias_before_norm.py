"""conv-bias-before-norm: the kernel that adds a bias which the norm takes away goes; without a bias there is nothing."""

from __future__ import annotations

from mfu_doctor.rules.kernels.conv_bias_before_norm import conv_bias_before_norm
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def convolutions(bias: list[int]) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        dims = [[32, 64, 56, 56], [64, 64, 3, 3], bias, [], [], [], []]
        with drawn.span("aten::conv2d", "cpu_op", dims=dims, types=["float"] * 3):
            drawn.op("aten::cudnn_convolution", kernel=500, kernel_name="implicit_convolve_sgemm")
            if bias:
                drawn.op("aten::add_", kernel=80, kernel_name=POINTWISE)
        drawn.op("aten::batch_norm", kernel=100, kernel_name="bn_fw_tr_1C11_kernel_NCHW")

    return steps(body)


def test_a_bias_before_a_batch_norm_is_priced_at_its_kernel() -> None:
    assert price_us(conv_bias_before_norm, run_of(convolutions([64]))).low_ns == close(80)
    silent(conv_bias_before_norm, run_of(convolutions([])))
