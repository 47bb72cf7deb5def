"""fp64-work: a model or tensors in float64 by accident are priced by the device; scalars and small tensors are no finding."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import FrameSample, MeasuredPeak, PrecisionFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.fp64_work import fp64_work
from mfu_doctor.rules.kernels.large_vocab_loss import large_vocab_loss
from tests.rules.drawing import POINTWISE, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.kernels.test_fallback_convolution import CPU, INPUT, WEIGHT
from tests.rules.kernels.test_large_vocab_loss import written_out
from tests.timeline import Timeline

DGEMM = "cutlass_80_tensorop_d884gemm_128x64_16x3_nn_align1"
BIG = [1024, 1024]
T4 = "Tesla T4"
T4_FP64, T4_FP32 = 0.2544e12, 8.141e12  # FLOP/s


def work(kind: str = "double", *, device: str | None = "NVIDIA A100-SXM4-80GB", us: int = 2_000) -> Timeline:
    """A matmul and a pointwise operator of `us` each."""
    drawn = Timeline(device=device, sms=40) if device is not None else Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            name = DGEMM if kind == "double" else "ampere_sgemm_128x128_tn"
            told = {"dims": [BIG, BIG], "types": [kind, kind]}
            drawn.op("aten::mm", kernel=us if device else None, host=10 if device else us, kernel_name=name, **told)
            drawn.op(
                "aten::tanh", kernel=us if device else None, host=10 if device else us, kernel_name=POINTWISE, **told
            )
            if device:
                drawn.sync()
    return drawn


def test_on_a_gpu_with_few_units_for_fp64_the_ratio_of_the_peaks_decides() -> None:
    run = run_of(work(device=T4, us=20_000))
    finding = found(fp64_work, run)
    assert finding.fix.startswith("model = model.float()")
    assert finding.risk == "rounding"
    assert finding.detail is not None
    assert "3.1 % of its fp32 peak" in finding.detail
    price = price_us(fp64_work, run)
    ratio = T4_FP32 / T4_FP64
    # the matmul runs at 42 % of the fp64 peak (2 * 1024**3 FLOP in 20 ms) and keeps 70 % of that at the mid
    assert price.mid_ns == close(20_000 * (1 - 1 / ratio / 0.7) + 10_000)
    assert price.low_ns == close(20_000 * (1 - ratio**-0.5) + 6_000)
    assert price.high_ns > price.mid_ns


def test_on_a_cpu_half_of_the_vectors_and_of_the_bytes_remains() -> None:
    run = run_of(work(device=None))
    assert "leave it if what is computed needs more than 7 digits" in (found(fp64_work, run).detail or "")
    price = price_us(fp64_work, run)
    assert price.low_ns == close(0.40 * 4_000)
    assert price.mid_ns == close(0.55 * 4_000)
    assert price.high_ns == close(0.70 * 4_000)


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_a_program_that_makes_float64_its_default_means_it(default: str) -> None:
    """model.double() may only make dtypes match; who sets the default wants every number in it (an integrator of orbits)."""
    finding = found(fp64_work, run_of(work(device=None), precision=PrecisionFacts(default_dtype=default)))
    assert bool(finding.withhold) is (default == "float64")


def test_on_a_cpu_a_convolution_is_priced_as_a_whole_by_what_onednn_takes_in_float32() -> None:
    """In float64 PyTorch slices, copies and multiplies sample by sample; half of the calls inside have no large tensor."""

    def body(t: Timeline) -> None:
        told: dict[str, Any] = {
            "dims": [INPUT, WEIGHT, [], [], [], [], [], [], []],
            "types": ["double", "double", *[""] * 7],
            "concrete": ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"],
        }
        with t.span("aten::convolution", "cpu_op", **told):
            t.python(1)
            for _ in range(10):
                t.op("aten::slow_conv_dilated2d", host=1_000, dims=told["dims"][:2], types=["double", "double"])
                t.op("aten::as_strided", host=1_000, dims=[[8], []], types=["double", ""])

    run = run_of(steps(body, device=False), measured_peaks=CPU)
    price = price_us(fp64_work, run)
    # a millisecond at the peak; 20 ms now
    assert price.mid_ns == close(20_000 - 2_000)
    assert price.low_ns == close(20_000 - 4_000)


def test_small_operators_take_as_long_in_either_dtype() -> None:
    def body(t: Timeline) -> None:
        for _ in range(1_000):
            t.op("aten::tanh", host=1, dims=[[8]], types=["double"])

    price = price_us(fp64_work, run_of(steps(body, device=False)))
    assert price.high_ns < 10


@pytest.mark.parametrize("device", ["NVIDIA A100-SXM4-80GB", None])
def test_float32_is_no_finding(device: str | None) -> None:
    silent(fp64_work, run_of(work("float", device=device)))


def test_a_number_in_an_operator_is_no_float64() -> None:
    """`x * 2.0` and `torch.where(mask, 0.0, x)` are recorded with a double that has no dimensions."""

    def body(t: Timeline) -> None:
        t.op("aten::mul", host=500, dims=[BIG, []], types=["float", "double"])
        t.op("aten::where", host=500, dims=[BIG, [], BIG], types=["bool", "double", "float"])

    silent(fp64_work, run_of(steps(body, device=False)))


def test_a_scalar_that_is_accumulated_in_float64_is_no_finding() -> None:
    def body(t: Timeline) -> None:
        t.op("aten::mm", host=5_000, dims=[BIG, BIG], types=["float", "float"])
        t.op("aten::add_", host=5, dims=[[1], [1]], types=["double", "double"])

    silent(fp64_work, run_of(steps(body, device=False)))


def test_the_line_that_makes_float64_is_named() -> None:
    """Only the loss is in float64; what converts to it is `logits.double()`."""

    def body(t: Timeline) -> None:
        t.op("aten::mm", host=2_000, dims=[BIG, BIG], types=["float", "float"])
        with t.span("aten::to", "cpu_op"):
            t.python(1)
            t.op("aten::copy_", host=400, dims=[BIG, BIG], types=["double", "float"])
        t.op("aten::sum", host=1_000, dims=[BIG], types=["double"])

    drawn = steps(body, device=False)
    at = next(e for e in drawn.events if e["name"] == "aten::copy_")
    base = 1_000_000_000_000
    drawn.header["baseTimeNanoseconds"] = base
    frames = tuple(FrameSample(time_ns=base + (int(e["ts"]) + 50) * 1000, place="loss.py:7") for e in [at])
    run = run_of(drawn, frames=frames)
    finding = found(fp64_work, run)
    assert finding.place == "loss.py:7"
    assert finding.fix.startswith("x = x.float()")
    assert "matmuls are not part of it" in finding.summary
    # the conversion goes away, and 45 % of the sum remains
    assert price_us(fp64_work, run).mid_ns == close(400 + 0.55 * 1_000)


def test_float64_in_a_loss_over_a_vocabulary_is_a_symptom_of_that_loss() -> None:
    run = run_of(written_out())
    assert found(large_vocab_loss, run)
    assert found(fp64_work, run).symptom_of == ("large-vocab-loss",)
    assert found(fp64_work, run_of(work())).symptom_of == ()


def test_a_model_in_float64_is_told_by_its_parameters() -> None:
    peaks = (MeasuredPeak(dtype="float32", flops=1e11, threads=1, how="measured: a test"),)
    run = run_of(work(device=None), parameter_dtypes=("float64",), measured_peaks=peaks)
    assert found(fp64_work, run).fix.startswith("model = model.float()")


def test_without_dtypes_nothing_is_known() -> None:
    def body(t: Timeline) -> None:
        t.op("aten::mm", host=2_000)

    assert isinstance(fp64_work.judge(run_of(steps(body, device=False))), Skip)
