"""emulated-dtype: fp16 or bf16 on a CPU and bf16 on a V100 are found; a format that reaches a good part of the peak is not."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.kernels.emulated_dtype import emulated_dtype
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

FLOP = 2 * 256**3  # of a 256 x 256 x 256 product
DIMS = [[256, 256], [256, 256]]


def cpu(*dtypes: str, host_us: int = 3_000, cast_us: int = 0, bf16: float | None = None, **facts: Any) -> Run:
    """A product (and the cast of an operand) of each format a step where fp32 reaches 100 GFLOP/s; `bf16`: its measured peak."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            for dtype in dtypes:
                if cast_us:
                    drawn.op("aten::_to_copy", host=100, dims=DIMS[:1], types=["float"])  # to another layout: stays
                    with drawn.span("aten::_to_copy", "cpu_op", dims=DIMS[:1], types=["float"]):
                        drawn.python(1)
                        drawn.op("aten::copy_", host=cast_us, dims=DIMS, types=[dtype, "float"])
                drawn.op("aten::mm", host=host_us, dims=DIMS, types=[dtype, dtype])
    measured = {"float32": 1e11} | ({} if bf16 is None else {"bfloat16": bf16})
    peaks = tuple(MeasuredPeak(dtype=d, flops=flops, threads=2, how="measured") for d, flops in measured.items())
    return run_of(drawn, measured_peaks=peaks, **facts)


def test_half_precision_on_a_cpu_is_priced_at_the_supported_formats_peak() -> None:
    run = cpu("c10::Half", bf16=2e11)  # 11 GFLOP/s where 200 were measured
    price = price_us(emulated_dtype, run)
    assert price.high_ns == close(3_000 - FLOP / 2e11 * 1e6)
    assert price.mid_ns == close(3_000 - FLOP / (0.75 * 2e11) * 1e6)
    assert price.low_ns == close(3_000 - FLOP / (0.5 * 2e11) * 1e6)
    assert found(emulated_dtype, run).fix.startswith('with torch.autocast("cpu", dtype=torch.bfloat16):')


def test_a_processor_without_bf16_is_sent_to_fp32_and_its_casts_go() -> None:
    """bf16 would be as slow there: measured, 6.4 s a step where fp32 took 0.18 s."""
    bf16, half = "c10::BFloat16", "c10::Half"
    for dtypes, used in (((half,), "fp16"), ((bf16,), "bf16"), ((bf16, half), "bf16 and fp16")):
        run = cpu(*dtypes, cast_us=400, bf16=1e9)
        finding, price, count = found(emulated_dtype, run), price_us(emulated_dtype, run), len(dtypes)
        assert f"Matmuls in {used} take" in finding.summary
        assert finding.fix.startswith('with torch.autocast("cpu", enabled=False):')
        assert price.high_ns == close(count * (3_400 - FLOP / 1e11 * 1e6))
        assert price.low_ns == close(count * (3_000 - FLOP / (0.5 * 1e11) * 1e6))


def test_a_model_stored_in_an_emulated_format_is_to_be_stored_in_fp32() -> None:
    run = cpu("c10::BFloat16", bf16=1e9, parameter_dtypes=("bfloat16",))
    assert found(emulated_dtype, run).fix.startswith("model.float()")


def test_a_processor_with_arithmetic_in_the_format_is_left_alone() -> None:
    silent(emulated_dtype, cpu("c10::Half", host_us=500))
    silent(emulated_dtype, cpu("c10::BFloat16", bf16=2e11))
    silent(emulated_dtype, cpu("c10::BFloat16"))  # its peak is not known: nothing can be said


def test_single_precision_is_no_emulation() -> None:
    silent(emulated_dtype, cpu("float", host_us=30_000))


def volta(dtype: str) -> Run:
    drawn = Timeline(device="Tesla V100-SXM2-16GB", sms=80)
    big = [[4096, 4096], [4096, 4096]]
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=14_000, kernel_name=f"gemm_{dtype}", dims=big, types=[dtype, dtype])
    return run_of(drawn)


def test_bf16_on_a_volta_is_emulated_and_fp16_is_not() -> None:
    assert "GradScaler" in found(emulated_dtype, volta("c10::BFloat16")).fix
    silent(emulated_dtype, volta("c10::Half"))
