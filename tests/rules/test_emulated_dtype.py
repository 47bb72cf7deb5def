"""emulated-dtype: fp16 on a CPU and bf16 on a V100 are found; a format that reaches a good part of the peak is not."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.emulated_dtype import emulated_dtype
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

FLOP = 2 * 256**3  # of a 256 x 256 x 256 product
DIMS = [[256, 256], [256, 256]]


def cpu(dtype: str, host_us: int) -> Run:
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=host_us, dims=DIMS, types=[dtype, dtype])
    peaks = (MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="measured"),)
    return run_of(drawn, measured_peaks=peaks)


def test_half_precision_on_a_cpu_is_priced_at_the_supported_formats_peak() -> None:
    run = cpu("c10::Half", 3_000)  # 11 GFLOP/s where 100 were measured
    price = price_us(emulated_dtype, run)
    assert price.high_ns == close(3_000 - FLOP / 1e11 * 1e6)
    assert price.mid_ns == close(3_000 - FLOP / (0.75 * 1e11) * 1e6)
    assert price.low_ns == close(3_000 - FLOP / (0.5 * 1e11) * 1e6)
    assert "bfloat16" in found(emulated_dtype, run).fix


def test_a_processor_with_half_arithmetic_is_left_alone() -> None:
    assert emulated_dtype.judge(cpu("c10::Half", 500)) is None


def test_single_precision_is_no_emulation() -> None:
    assert emulated_dtype.judge(cpu("float", 30_000)) is None


def volta(dtype: str) -> Run:
    drawn = Timeline(device="Tesla V100-SXM2-16GB", sms=80)
    big = [[4096, 4096], [4096, 4096]]
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=14_000, kernel_name=f"gemm_{dtype}", dims=big, types=[dtype, dtype])
    return run_of(drawn)


def test_bf16_on_a_volta_is_emulated_and_fp16_is_not() -> None:
    assert "GradScaler" in found(emulated_dtype, volta("c10::BFloat16")).fix
    assert emulated_dtype.judge(volta("c10::Half")) is None
