"""fp32-matmul: priced by roofline at 16 bits, never below the memory traffic, silent where 16 bits are in use already."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.kernels.fp32_matmul import fp32_matmul
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SGEMM, TENSOR = "ampere_sgemm_128x128_tn", "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn"
N = 4096
FP32_PEAK, BF16_PEAK, BANDWIDTH = 19.5e12, 312e12, 2039e9  # A100 SXM4 80 GB


def loop(kernel: str, us: int, *, types: str = "float", shapes: bool = True, idle: int = 0) -> Timeline:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            told: dict[str, Any] = {"dims": [[N, N], [N, N]], "types": [types, types]} if shapes else {}
            drawn.op("aten::mm", kernel=us, kernel_name=kernel, **told)
            drawn.python(idle)
    return drawn


def test_an_fp32_product_is_priced_by_the_16_bit_roofline() -> None:
    us, flops = 9_000, 2 * N**3
    price = price_us(fp32_matmul, run_of(loop(SGEMM, us)))
    efficiency = flops / (us * 1e-6) / FP32_PEAK
    moved = 3 * N * N * 4 / BANDWIDTH * 1e6
    assert price.low_ns == close(us - us / (BF16_PEAK / FP32_PEAK) ** 0.5 - moved)
    assert price.mid_ns == close(us - flops / BF16_PEAK * 1e6 / (0.7 * efficiency) - moved / 2)
    assert price.high_ns == close(us - flops / BF16_PEAK * 1e6 / 0.8)


def test_small_products_that_are_all_overhead_promise_nothing_at_the_low_end() -> None:
    """64 x 64 products of 50 us reach 1 % of the peak: halving their arithmetic halves nothing."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            for _ in range(20):
                drawn.op("aten::mm", host=50, dims=[[64, 64], [64, 64]], types=["float", "float"])
    peaks = tuple(
        MeasuredPeak(dtype=d, flops=f, threads=2, how="drawn") for d, f in (("float32", 1e11), ("bfloat16", 3e11))
    )
    assert price_us(fp32_matmul, run_of(drawn, measured_peaks=peaks)).low_ns < 0.01 * 1000


def test_without_shapes_only_the_ratio_of_the_peaks_is_used_and_it_is_a_hint() -> None:
    run = run_of(loop(SGEMM, 9_000, shapes=False))
    assert found(fp32_matmul, run).confidence == "hint"
    assert price_us(fp32_matmul, run).high_ns == close(9_000 * (1 - FP32_PEAK / BF16_PEAK))


@pytest.mark.parametrize("is_cpu", [True, False])
def test_only_on_a_cpu_is_16_bits_a_choice(is_cpu: bool) -> None:
    drawn = Timeline(device=None) if is_cpu else loop(SGEMM, 9_000)
    for _ in range(5 if is_cpu else 0):
        with drawn.step():
            drawn.op("aten::mm", host=50_000, dims=[[N, N], [N, N]], types=["float", "float"])
    peaks = tuple(
        MeasuredPeak(dtype=d, flops=f, threads=2, how="drawn") for d, f in (("float32", 1e13), ("bfloat16", 3e13))
    )
    assert found(fp32_matmul, run_of(drawn, measured_peaks=peaks if is_cpu else ())).trades is is_cpu


def test_bf16_products_are_no_finding() -> None:
    silent(fp32_matmul, run_of(loop(TENSOR, 900, types="c10::BFloat16")))


def test_a_host_bound_run_gains_nothing_from_faster_kernels() -> None:
    run = run_of(loop(SGEMM, 500, idle=9_000))
    assert price_us(fp32_matmul, run).high_ns < 0.01 * 9_000


def cpu_loop() -> Timeline:
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=10_000, dims=[[512, 512], [512, 512]], types=["float", "float"])
    return drawn


@pytest.mark.parametrize(("bf16", "fires"), [(400e9, True), (180e9, False), (20e9, False)])
def test_on_a_cpu_only_a_measured_faster_format_is_advised(bf16: float, fires: bool) -> None:
    peaks = tuple(MeasuredPeak(dtype=d, flops=f, threads=2, how="drawn") for d, f in (("fp32", 160e9), ("bf16", bf16)))
    run = run_of(cpu_loop(), measured_peaks=peaks)
    if fires:
        found(fp32_matmul, run)
    else:
        silent(fp32_matmul, run)


@pytest.mark.parametrize(("us", "in_loops"), [(12_500, 12_500), (30_000, 20_000)])
def test_on_a_cpu_a_products_loops_shrink_by_the_ratio_of_the_measured_peaks(us: int, in_loops: int) -> None:
    """2 GFLOP on a measured 200 GFLOP/s are 10 ms of arithmetic; of a product, up to twice that is its loops."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=us, dims=[[1000, 1000], [1000, 1000]], types=["float", "float"])
    given = (("float32", 200e9), ("bfloat16", 400e9))
    peaks = tuple(MeasuredPeak(dtype=d, flops=f, threads=2, how="drawn") for d, f in given)
    price = price_us(fp32_matmul, run_of(drawn, measured_peaks=peaks))
    assert price.mid_ns == close(in_loops / 2 - 30)  # its casts
    assert price.high_ns == close(us - 5_000 - 10)
    assert price.low_ns == close(min(us - us / 2**0.5, 5_000) - 70)


def repeated(op: str, us: int, dims: list[list[int]]) -> Run:
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            for _ in range(50):
                drawn.op(op, host=us, dims=dims, types=["float"] * len(dims))
    given = (("float32", 100e9), ("bfloat16", 200e9))
    peaks = tuple(MeasuredPeak(dtype=d, flops=f, threads=1, how="drawn") for d, f in given)
    return run_of(drawn, measured_peaks=peaks)


@pytest.mark.parametrize(
    ("batch", "width", "us", "measured"), [(16, 32, 25, 2.2), (64, 32, 26, 2.1), (16, 128, 31, 1.9), (64, 128, 49, 1.4)]
)
def test_on_a_cpu_casts_make_small_matmuls_slower(batch: int, width: int, us: int, measured: float) -> None:
    """Linear layers as measured (see `bf16_paths`): what autocast leaves of them is more than all."""
    run = repeated("aten::mm", us, [[batch, width], [width, width]])
    change = found(fp32_matmul, run).change
    assert change is not None
    low, mid = (run.replay.step_ns(edits) / run.replay.measured_ns for edits in (change.low, change.mid))
    assert low > mid == pytest.approx(measured, rel=0.2)


def test_on_a_cpu_a_convolution_is_packed_in_fp32_too() -> None:
    """Its casts cost less than those of a matmul that takes as long."""
    conv = price_us(fp32_matmul, repeated("aten::convolution", 127, [[4, 16, 16, 16], [16, 16, 3, 3]]))
    product = price_us(fp32_matmul, repeated("aten::mm", 127, [[1024, 144], [144, 16]]))
    assert conv.low_ns > product.low_ns
    assert conv.mid_ns > product.mid_ns


def cpu_model(*ops: str) -> Timeline:
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            for op in ops:
                drawn.op(op, host=10_000, dims=[[512, 512], [512, 512]], types=["float", "float"])
    return drawn


@pytest.mark.parametrize(
    "op",
    ["aten::mkldnn_rnn_layer", "aten::mkldnn_rnn_layer_backward", "aten::_scaled_dot_product_flash_attention_for_cpu"],
)
def test_on_a_cpu_bf16_is_priced_only_for_operators_that_are_known_to_gain(op: str) -> None:
    """A measured matmul peak says nothing about an LSTM: autocast took one from 97 to 108 ms."""
    given = (("float32", 200e9), ("bfloat16", 400e9))
    peaks = tuple(MeasuredPeak(dtype=d, flops=f, threads=2, how="drawn") for d, f in given)
    silent(fp32_matmul, run_of(cpu_model(op), measured_peaks=peaks))
    alone = price_us(fp32_matmul, run_of(cpu_model("aten::mm"), measured_peaks=peaks))
    both = price_us(fp32_matmul, run_of(cpu_model("aten::mm", op), measured_peaks=peaks))
    assert both.mid_ns == close(alone.mid_ns)
    assert both.low_ns < alone.low_ns
