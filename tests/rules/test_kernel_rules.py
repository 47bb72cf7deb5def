"""Rules about single kinds of kernels: each fires on its fault with the closed form as price, and is silent without it."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import MeasuredPeak, MemoryFacts, PrecisionFacts
from mfu_doctor.rules.kernels.conv_bias_before_norm import conv_bias_before_norm
from mfu_doctor.rules.kernels.large_vocab_loss import large_vocab_loss
from mfu_doctor.rules.kernels.layout_conversion import layout_conversion
from mfu_doctor.rules.kernels.misaligned_matmul import misaligned_matmul
from mfu_doctor.rules.kernels.repeated_cast import repeated_cast
from mfu_doctor.rules.kernels.small_matmul import small_matmul
from mfu_doctor.rules.kernels.unbenchmarked_convolution import unbenchmarked_convolution
from mfu_doctor.rules.kernels.unfused_attention import unfused_attention
from mfu_doctor.rules.kernels.unfused_clipping import unfused_clipping
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from mfu_doctor.rules.kernels.zeroed_gradients import zeroed_gradients
from mfu_doctor.rules.memory.needless_recompute import needless_recompute
from tests.rules.drawing import POINTWISE, TENSOR, compute, steps
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

BF16_PEAK = 312e12  # A100 SXM4 80 GB
BF16 = "c10::BFloat16"


def pointwise(length: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        for _ in range(length):
            drawn.op("aten::add", kernel=300, kernel_name=POINTWISE)

    return steps(body)


def test_a_chain_of_pointwise_operations_is_priced_down_to_its_longest() -> None:
    price = price_us(unfused_elementwise, run_of(pointwise(5)))
    assert price.high_ns == close(4 * 300)
    assert price.mid_ns == close(0.75 * 4 * 300)
    assert price.low_ns == close(0.5 * 4 * 300)


def test_two_pointwise_operations_are_no_chain() -> None:
    assert unfused_elementwise.judge(run_of(pointwise(2))) is None


HEADS, SEQUENCE, WIDTH = 96, 2048, 64


def attention(*, fused: bool) -> Timeline:
    scores = [HEADS, SEQUENCE, SEQUENCE]
    flat = [HEADS, SEQUENCE, WIDTH]

    def body(drawn: Timeline) -> None:
        compute(drawn, 500)
        if fused:
            told: dict[str, Any] = {"dims": [[2, 48, SEQUENCE, WIDTH]] * 3, "types": [BF16] * 3}
            drawn.op("aten::_scaled_dot_product_flash_attention", kernel=900, kernel_name="flash_fwd_kernel", **told)
            return
        first: dict[str, Any] = {"dims": [flat, [HEADS, WIDTH, SEQUENCE]], "types": [BF16, BF16]}
        drawn.op("aten::bmm", kernel=1_500, kernel_name=TENSOR, **first)
        drawn.op("aten::div", kernel=1_000, kernel_name=POINTWISE)
        drawn.op(
            "aten::_softmax",
            kernel=1_500,
            kernel_name="softmax_warp_forward",
            dims=[scores, [], []],
            types=[BF16, "", ""],
        )
        second: dict[str, Any] = {"dims": [scores, flat], "types": [BF16, BF16]}
        drawn.op("aten::bmm", kernel=1_500, kernel_name=TENSOR, **second)

    return steps(body)


def test_written_out_attention_is_priced_by_the_fused_kernels_roofline() -> None:
    flops = 4 * HEADS * SEQUENCE * SEQUENCE * WIDTH
    price = price_us(unfused_attention, run_of(attention(fused=False)))
    for saved, efficiency in ((price.low_ns, 0.3), (price.mid_ns, 0.5), (price.high_ns, 0.7)):
        assert saved == close(5_500 - flops / BF16_PEAK / efficiency * 1e6)
    assert "scaled_dot_product_attention" in found(unfused_attention, run_of(attention(fused=False))).fix


def test_fused_attention_is_no_finding() -> None:
    assert unfused_attention.judge(run_of(attention(fused=True))) is None


def products(m: int, n: int, k: int, us: int, *, grid: list[int] | None = None, also: bool = False) -> Timeline:
    def body(drawn: Timeline) -> None:
        told: dict[str, Any] = {"dims": [[m, k], [k, n]], "types": [BF16, BF16], "grid": grid or [4096, 1, 1]}
        drawn.op("aten::mm", kernel=us, kernel_name=TENSOR, **told)
        if also:  # an aligned product at 60 % of the peak
            flops = 2 * 4096**3
            told = {"dims": [[4096, 4096]] * 2, "types": [BF16, BF16], "grid": [1024, 1, 1]}
            drawn.op("aten::mm", kernel=round(flops / BF16_PEAK / 0.6 * 1e6), kernel_name=TENSOR, **told)

    return steps(body)


def test_an_odd_size_is_priced_padded_at_the_efficiency_of_aligned_products() -> None:
    run = run_of(products(4097, 4096, 4096, 3_000, also=True))
    padded = 2 * 4104 * 4096 * 4096 / BF16_PEAK / 0.6 * 1e6
    price = price_us(misaligned_matmul, run)
    assert price.mid_ns == close(3_000 - padded)
    assert price.low_ns == close((3_000 - padded) / 2)
    assert found(misaligned_matmul, run).fix == "# pad 4097 x 4096 x 4096 to 4104 x 4096 x 4096"


def test_aligned_products_are_no_finding() -> None:
    assert misaligned_matmul.judge(run_of(products(4096, 4096, 4096, 900))) is None


def test_a_product_of_few_blocks_is_priced_by_the_larger_ones() -> None:
    # 512 x 512 x 8192 on 16 of 108 multiprocessors
    ideal = 2 * 512 * 512 * 8192 / BF16_PEAK / 0.6 * 1e6
    price = price_us(small_matmul, run_of(products(512, 512, 8192, 400, grid=[4, 4, 1], also=True)))
    assert price.high_ns == close(400 - ideal)
    assert price.mid_ns == close((400 - ideal) / 2)


def test_a_product_that_fills_the_device_is_no_finding() -> None:
    assert small_matmul.judge(run_of(products(4096, 4096, 4096, 900))) is None


def between(*ops: tuple[str, int, str], **args: Any) -> Timeline:
    """Steps of 2 ms of computation and these operators (name, microseconds, kernel)."""

    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        for name, us, kernel in ops:
            drawn.op(name, kernel=us, kernel_name=kernel, **args)

    return steps(body)


def test_layout_conversions_are_priced_at_their_time() -> None:
    kernel = (
        "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>(cudnn::ops::nchw2nhwc_params_t<float>)"
    )
    price = price_us(layout_conversion, run_of(between(("aten::cudnn_convolution", 200, kernel))))
    assert price.high_ns == close(200)
    assert price.low_ns == close(100)
    assert layout_conversion.judge(run_of(between(("aten::add", 200, POINTWISE)))) is None


def casts(micro: int) -> Any:
    def body(drawn: Timeline) -> None:
        for _ in range(micro):
            told: dict[str, Any] = {"dims": [[4096, 4096], [4096, 4096], []], "types": [BF16, "float", ""]}
            drawn.op("aten::copy_", kernel=100, kernel_name=POINTWISE, **told)
            compute(drawn, 500)

    return run_of(steps(body), micro_batches=float(micro))


def test_weights_cast_in_each_of_four_micro_batches_need_one_cast() -> None:
    assert price_us(repeated_cast, casts(4)).mid_ns == close(300)
    assert repeated_cast.judge(casts(1)) is None


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
    assert conv_bias_before_norm.judge(run_of(convolutions([]))) is None


def clipping(norms: int) -> Timeline:
    return between(*[("aten::linalg_vector_norm", 5, "reduce_kernel")] * norms)


def test_norms_of_single_gradients_become_one_launch() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 100)
        for _ in range(100):
            drawn.op("aten::linalg_vector_norm", kernel=5, host=30, kernel_name="reduce_kernel")

    price = price_us(unfused_clipping, run_of(steps(body)))
    # 3 ms of host time in a host-bound step: 60, 80 and 90 % of it
    assert price.low_ns == close(0.6 * 3_000)
    assert price.mid_ns > price.low_ns
    assert unfused_clipping.judge(run_of(clipping(4))) is None


def zeroing(ops: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 500)
        drawn.sync()
        with drawn.span("Optimizer.zero_grad#SGD.zero_grad"):
            for _ in range(ops):
                drawn.op("aten::zero_", kernel=3, host=20, kernel_name=POINTWISE)
            drawn.python(20)

    return steps(body)


def test_zeros_are_priced_with_the_host_time_of_their_span() -> None:
    price = price_us(zeroed_gradients, run_of(zeroing(100)))
    assert price.mid_ns == close(100 * 20)
    assert price.low_ns == close(100 * 10)
    assert zeroed_gradients.judge(run_of(zeroing(0))) is None


def test_a_loss_over_a_large_vocabulary_is_priced_by_its_passes() -> None:
    wide = {"dims": [[8192, 50304], [], []], "types": ["float", "", ""]}
    price = price_us(large_vocab_loss, run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **wide)))
    assert price.low_ns == close(250)
    assert price.mid_ns == close(500)
    narrow = {"dims": [[8192, 1000], [], []], "types": ["float", "", ""]}
    assert large_vocab_loss.judge(run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **narrow))) is None


@pytest.mark.parametrize(("benchmark", "fires"), [(False, True), (True, False)])
def test_unbenchmarked_convolutions_are_a_hint(benchmark: bool, fires: bool) -> None:
    drawn = between(("aten::cudnn_convolution", 1_000, "implicit_convolve_sgemm"))
    run = run_of(drawn, precision=PrecisionFacts(cudnn_benchmark=benchmark))
    assert (unbenchmarked_convolution.judge(run) is not None) is fires
    if fires:
        assert price_us(unbenchmarked_convolution, run).high_ns == close(200)


def checkpointed(again: bool) -> Timeline:
    told: dict[str, Any] = {"dims": [[1024, 1024], [1024, 1024]], "types": ["float", "float"]}

    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)
        with (
            drawn.span("autograd::engine::evaluate_function: CheckpointFunctionBackward", "cpu_op"),
            drawn.span("CheckpointFunctionBackward", "cpu_op"),
        ):
            if again:  # it records for autograd again, so it carries a sequence number
                drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, sequence=7, **told)
            with (
                drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"),
                drawn.span("MmBackward0", "cpu_op"),
            ):
                drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)
                drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)

    return steps(body)


def test_recomputation_is_priced_and_withheld_where_memory_is_full() -> None:
    free = MemoryFacts(total_bytes=100, reserved_peak_bytes=40)
    run = run_of(checkpointed(True), memory=free)
    price = price_us(needless_recompute, run)
    assert price.mid_ns == close(500)
    assert price.high_ns == close(1_000)
    full = found(
        needless_recompute, run_of(checkpointed(True), memory=MemoryFacts(total_bytes=100, reserved_peak_bytes=97))
    )
    assert full.withhold is not None
    assert needless_recompute.judge(run_of(checkpointed(False), memory=free)) is None


def test_recomputation_goes_where_its_activations_are_known_to_fit() -> None:
    """The recomputed product reads and writes 12 MiB: with 30 free it is certain, with 20 only a try can tell."""
    product = 3 * 1024 * 1024 * 4
    for free, mid in ((2.5 * product, 1_000), (1.5 * product, 500)):
        memory = MemoryFacts(total_bytes=4 * product, reserved_peak_bytes=int(4 * product - free))
        run = run_of(checkpointed(True), memory=memory)
        assert price_us(needless_recompute, run).mid_ns == close(mid)
        assert "12.0 MiB" in str(found(needless_recompute, run).detail)


def test_a_written_out_attention_on_a_cpu_counts_all_stretches_of_an_operator() -> None:
    """A product that resolves its operand midway is two stretches of 500 us; fused, 2 x 1000 of products become their FLOPs."""
    heads, length, width = 8, 512, 64
    operand, scores = [heads, length, width], [heads, length, length]
    peak = MeasuredPeak(dtype="fp32", flops=4.0 * heads * length * length * width / 0.5e-3, threads=1, how="a test")
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=3_000)
            for operands, softmax in (([operand, [heads, width, length]], True), ([scores, operand], False)):
                with drawn.span("aten::bmm", "cpu_op", dims=operands, types=["float", "float"]):
                    drawn.python(500)
                    drawn.op("aten::resolve_conj", host=2)
                    drawn.python(500)
                if softmax:
                    drawn.op("aten::_softmax", host=400, dims=[scores, [], []], types=["float", "Scalar", "Scalar"])
            drawn.op("aten::mm", host=3_000)
    run = run_of(drawn, measured_peaks=(peak,))
    now = 2 * 1_002 + 400
    assert price_us(unfused_attention, run).mid_ns == close(now - 500 / 0.4)


def test_on_a_cpu_a_scalar_made_a_tensor_inside_an_operator_does_not_break_a_chain() -> None:
    """`0.5 * x` copies its scalar between two stretches of aten::mul: still one member, whose two stretches count once each.

    Three operators of 400 us around conversions of 2: fused, 400 stay, and 2 x 400 go (and their conversions are other work).
    """
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=2000)
            for _ in range(3):
                with drawn.span("aten::mul", "cpu_op"):
                    drawn.python(100)
                    drawn.op("aten::copy_", host=2)
                    drawn.python(300)
            drawn.op("aten::mm", host=2000)
    price = price_us(unfused_elementwise, run_of(drawn))
    assert price.high_ns == close(2 * 400)
    assert price.low_ns == close(0.5 * 2 * 400)


def test_on_a_cpu_the_nodes_of_backward_do_not_break_a_chain() -> None:
    """MulBackward0 and its kin have a little time of their own around each operator, and touch no memory."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            for _ in range(4):
                with drawn.span("autograd::engine::evaluate_function: MulBackward0", "cpu_op"):
                    drawn.python(3)
                    drawn.op("aten::mul", host=400)
    assert price_us(unfused_elementwise, run_of(drawn)).high_ns == close(3 * 400 + 3 * 3)
