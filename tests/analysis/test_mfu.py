"""MFU and its denominator: every convention on drawn steps with round numbers, and on real traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.analysis.utilization.mfu import device_info
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import Facts, GivenNumbers, MeasuredPeak
from mfu_doctor.quantities import percent
from mfu_doctor.render import render
from mfu_doctor.render.words import wording
from mfu_doctor.result.run import Mfu
from tests.reference import from_json
from tests.timeline import Timeline
from tests.traces import real_run

SECOND = 1_000_000  # us
BF16_GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1"
FP32_GEMM = "ampere_sgemm_128x128_tn"
FP8_GEMM = "cutlass3x_sm90_tensorop_s64x128x32gemm_e4m3_e4m3_f32_bf16_bf16_128x128x128"
TRACE = ".pt.trace.json.gz"


def product(t: Timeline, flops: int, kernel: str, seconds: float = 1.0, dtype: str = "float") -> None:
    """A matrix product of this many FLOP (a multiple of 2e8) whose kernel takes this long."""
    dims = [[10_000, 10_000], [10_000, flops // 200_000_000]]
    t.op("aten::mm", kernel=int(seconds * SECOND), kernel_name=kernel, dims=dims, types=[dtype, dtype])


def steps_of(seconds: float, draw: Callable[[Timeline], None], device: str = "NVIDIA H100 80GB HBM3") -> Timeline:
    """Three steps of exactly this length."""
    t = Timeline(device=device, sms=132 if "H100" in device else 108)
    for _ in range(3):
        start = t.now
        with t.step():
            draw(t)
            t.python(int(seconds * SECOND) - (t.now - start))
    return t


def mixed(t: Timeline) -> None:
    """One second of bf16 and one of fp32, each at its own peak."""
    product(t, 989_400_000_000_000, BF16_GEMM, dtype="c10::BFloat16")
    product(t, 66_910_000_000_000, FP32_GEMM)


def shapeless(t: Timeline) -> None:
    """A product whose operands were not recorded."""
    t.op("aten::mm", kernel=SECOND, kernel_name=BF16_GEMM)


def test_one_format_is_the_classical_ratio() -> None:
    """F / (P T), where everything runs in the best format."""
    run = Run(steps_of(4, lambda t: product(t, 989_400_000_000_000, BF16_GEMM, dtype="c10::BFloat16")).trace())
    mfu = run.mfu.report
    assert mfu.value == pytest.approx(0.25)
    assert mfu.hfu == mfu.causal == mfu.by_dtype == mfu.value
    assert mfu.model_flops == 989_400_000_000_000
    assert mfu.achieved_flops_s == pytest.approx(989.4e12 / 4)
    assert (mfu.method, mfu.coverage, mfu.upper, mfu.reason) == ("counted", 1.0, None, None)


def test_a_slower_format_is_measured_against_the_best_and_by_itself_beside_it() -> None:
    """fp32 matmuls of a bf16 run are a loss, not a reason for another denominator."""
    run = Run(steps_of(4, mixed).trace())
    mfu = run.mfu.report
    assert mfu.value == pytest.approx((1 + 66.91 / 989.4) / 4)  # 26.69 %
    assert mfu.by_dtype == pytest.approx(0.5)
    assert (run.mfu.reference, run.mfu.reference_peak) == ("bf16", 989.4e12)


def test_an_fp8_kernel_is_measured_against_fp8() -> None:
    """Against the bf16 peak an fp8 run would exceed 100 %."""
    draw = lambda t: product(t, 1_979_000_000_000_000, FP8_GEMM, dtype="c10::Float8_e4m3fn")  # noqa: E731
    assert Run(steps_of(1, draw).trace()).mfu.report.value == pytest.approx(1.0)


def test_an_fp32_run_is_measured_against_what_it_could_use() -> None:
    """The most useful sentence about an fp32 run on an A100 is that the card has a 16x faster format."""
    run = Run(steps_of(1, lambda t: product(t, 19_490_000_000_000, FP32_GEMM), "NVIDIA A100-SXM4-80GB").trace())
    assert run.mfu.report.value == pytest.approx(19.49 / 311.9)
    assert run.mfu.report.by_dtype == pytest.approx(1.0)


def test_the_users_flops_and_peak_win() -> None:
    """GPT-2 124M, 40 micro-batches in 2.5 s on an A100 of 312 TFLOP/s: 53.86 %."""
    t = steps_of(2.5, lambda t: product(t, 2_000_000_000, BF16_GEMM))
    run = Run(t.trace(), Options(peak_flops=312e12, model_flops=40 * 10_502_000_345_088))
    assert run.mfu.report.value == pytest.approx(0.5386, abs=5e-5)
    assert run.mfu.report.method == "given"
    assert "counted from the trace" in run.mfu.report.notes[0]


def test_numbers_given_to_profile_are_used() -> None:
    """They travel in the trace file."""
    trace = steps_of(1, lambda t: product(t, 2_000_000_000, BF16_GEMM)).trace()
    facts = Facts(given=GivenNumbers(model_flops=1e14, peak_flops=4e14))
    assert Run(replace(trace, facts=facts)).mfu.report.value == pytest.approx(0.25)


def test_unprofiled_step_times_are_the_denominator() -> None:
    """The profiler slows the step; MFU is of the mean step without it, of long ones too: work over wall time."""
    trace = steps_of(4, mixed).trace()
    timed = Run(replace(trace, facts=Facts(timed_steps_s=(1.0, 4.0, 1.0))))
    assert timed.mfu.step_s == 2.0
    assert timed.mfu.report.value == pytest.approx(2 * float(Run(trace).mfu.report.value or 0))


def test_an_unknown_device_has_no_mfu_and_says_how_to_get_one() -> None:
    """FLOP/s are still known; a fallback peak would be a lie."""
    run = Run(steps_of(4, mixed, device="Mystery 9000").trace())
    trace_of_unknown = run.mfu.report
    assert run.peaks.of("bf16") is not None  # Timeline draws compute capability 8.0 and CUDA calls: derived, flagged
    assert run.peaks.confidence == "derived"
    unnamed = Run(replace(run.recorded, devices=()))
    mfu = unnamed.mfu.report
    assert (mfu.value, mfu.hfu, mfu.by_dtype) == (None, None, None)
    assert mfu.model_flops == trace_of_unknown.model_flops
    assert "--peak-flops" in str(mfu.reason)
    assert "--peak-flops" in str(device_info(unnamed.counted, unnamed.mfu).peak_reason)


def test_unknown_flops_make_an_interval() -> None:
    """One second of a custom matmul in four: MFU lies between what is counted and that plus a quarter."""

    def draw(t: Timeline) -> None:
        mixed(t)
        t.op("mylib::gemm", kernel=SECOND, kernel_name=BF16_GEMM)

    mfu = Run(steps_of(4, draw).trace()).mfu.report
    assert mfu.coverage == pytest.approx(2 / 3)
    assert mfu.upper == pytest.approx(float(mfu.value or 0) + 0.25)
    assert "mylib::gemm" in mfu.notes[0]


def test_a_foreign_operator_that_takes_long_makes_an_interval_too() -> None:
    """Nobody knows what its kernel computes; under 2 % of the time it does not matter."""

    def draw(seconds: float) -> Callable[[Timeline], None]:
        def one(t: Timeline) -> None:
            mixed(t)
            t.op("mylib::mystery", kernel=int(seconds * SECOND), kernel_name="k")

        return one

    long, short = (Run(steps_of(4, draw(s)).trace()).mfu.report for s in (0.4, 0.01))
    assert long.upper == pytest.approx(float(long.value or 0) + 0.1)
    assert short.upper is None


def test_no_shapes_mean_no_mfu() -> None:
    """None with the reason, never 0."""
    run = Run(steps_of(4, shapeless).trace())
    mfu = run.mfu.report
    assert (mfu.value, mfu.model_flops, mfu.coverage) == (None, None, 0.0)
    assert "record_shapes=True" in str(mfu.reason)


def test_above_100_percent_is_an_error_with_its_cause_and_no_headline() -> None:
    """What the user states is suspected first. The number is kept, and nothing is derived from the peak."""
    run = Run(steps_of(4, mixed).trace(), Options(peak_flops=1e14))
    mfu = run.mfu.report
    assert (mfu.value, mfu.upper, mfu.hfu) == (None, None, None)
    assert mfu.calculated == pytest.approx((989.4 + 66.91) / 400)
    assert mfu.reason is not None
    assert (
        "264.1 % is calculated, which cannot be: the given peak (100 TFLOP/s) is too low: check --peak-flops"
        in mfu.reason
    )
    assert not [bar for bar in run.waterfall.bars if bar.basis == "modelled"]
    report = diagnose_run(run).report
    assert wording.headline(report)[0] == "MFU unknown"
    assert "264.1 % is calculated" in render(report, "terminal")


def test_flops_that_the_user_states_too_high_are_named_with_those_of_the_trace() -> None:
    mfu = Run(steps_of(4, mixed).trace(), Options(model_flops=1e16)).mfu.report
    assert mfu.value is None
    assert "given FLOPs (10.0 PFLOP per step; the trace contains 1.06 PFLOP) are too high" in str(mfu.reason)


def test_a_time_that_is_shorter_than_its_own_matmuls_is_the_cause() -> None:
    trace = replace(steps_of(4, mixed).trace(), facts=Facts(timed_steps_s=(0.5, 0.5, 0.5)))
    assert "the time is probably wrong" in str(Run(trace).mfu.report.reason)


def test_flops_of_masked_attention_or_of_plain_convolutions_are_the_cause() -> None:
    causal = Run(steps_of(0.0002, lambda t: attention(t, causal=True, us=170)).trace()).mfu.report
    assert causal.value is None
    assert causal.causal is not None
    assert f"without the masked part it is {percent(causal.causal)}" in str(causal.reason)

    def convolve(t: Timeline) -> None:
        dims: Any = [[64, 256, 56, 56], [256, 256, 3, 3], [], [], [], [], [], [], []]
        t.op("aten::convolution", kernel=100, kernel_name="winograd", dims=dims, types=["c10::Half"] * 2,
             concrete=["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"])  # fmt: skip

    assert "Winograd or FFT" in str(Run(steps_of(0.0002, convolve).trace()).mfu.report.reason)


def test_an_estimated_peak_is_suspected_and_says_so() -> None:
    drawn = steps_of(
        1, lambda t: product(t, 989_400_000_000_000, BF16_GEMM, dtype="c10::BFloat16"), device="NVIDIA A100 X"
    )
    assert "estimated from the architecture: pass --peak-flops" in str(Run(drawn.trace()).mfu.report.reason)


def test_a_variant_above_100_percent_is_not_stated_either() -> None:
    """fp32 matmuls at 132 % of the fp32 peak: they are none of fp32, and MFU itself is possible."""
    mfu = Run(steps_of(1.5, lambda t: product(t, 132_000_000_000_000, FP32_GEMM)).trace()).mfu.report
    assert mfu.value is not None
    assert mfu.by_dtype is None
    (note,) = mfu.notes
    assert note.startswith("MFU by each kernel's dtype is not stated: 131.5 % is calculated, which cannot be")


def test_an_interval_whose_ends_differ_by_more_than_a_factor_of_two_is_unknown() -> None:
    """3 % of the matmul time is counted: "0.8-80 %" says nothing."""

    def partly(unknown: float) -> Mfu:
        def draw(t: Timeline) -> None:
            product(t, 98_940_000_000_000, BF16_GEMM, seconds=0.1, dtype="c10::BFloat16")
            t.op("custom::product", kernel=int(unknown * SECOND), kernel_name=BF16_GEMM)

        return Run(steps_of(2, draw).trace()).mfu.report

    wide, narrow = partly(1.6), partly(0.08)
    assert (wide.value, wide.hfu) == (None, None)
    assert wide.calculated == pytest.approx(0.05)
    assert (
        wide.reason
        == "the FLOPs of custom::product are unknown: all that is known is 5.0 % to 85.0 %; pass --model-flops"
    )
    assert not [note for note in wide.notes if "lower bound" in note]
    assert (narrow.value, narrow.upper) == pytest.approx((0.05, 0.09))


def test_no_reason_blames_shapes_that_were_recorded() -> None:
    """The only matmuls are those of a custom operator; shapes of others are there."""

    def draw(t: Timeline) -> None:
        t.op("custom::product", kernel=SECOND, kernel_name=BF16_GEMM, dims=[[8, 8]], types=["float"])

    run = Run(steps_of(2, draw).trace())
    assert run.mfu.report.reason == "the FLOPs of custom::product are unknown: pass --model-flops"
    shapes = Run(steps_of(2, shapeless).trace()).mfu.report.reason
    assert shapes is not None
    assert shapes.startswith("operator shapes were not recorded")


def test_kernels_of_no_operator_are_no_matter_of_shapes() -> None:
    drawn = steps_of(2, lambda t: product(t, 989_400_000_000_000, BF16_GEMM, dtype="c10::BFloat16"))
    drawn.events = [e for e in drawn.events if e["cat"] != "cpu_op"]
    assert "which operators launched kernels such as sm90_xmma_gemm" in str(Run(drawn.trace()).mfu.report.reason)


def test_a_kernel_is_a_matmul_if_its_operator_has_a_formula() -> None:
    """A compiled kernel whose name says nothing computes the counted product: that time is covered."""

    def draw(t: Timeline) -> None:
        product(t, 98_940_000_000_000, "triton_tem_fused_0", dtype="c10::BFloat16")
        t.op("custom::product", kernel=1000, kernel_name=BF16_GEMM)

    mfu = Run(steps_of(2, draw).trace()).mfu.report
    assert mfu.coverage == pytest.approx(1 / 1.001)


@pytest.mark.parametrize(
    ("dtype", "kernel"), [("c10::Half", "f16f16_f16f32_f32"), ("c10::BFloat16", "bf16bf16_bf16f32_f32")]
)
def test_the_peak_is_called_by_the_dtype_that_the_run_used(dtype: str, kernel: str) -> None:
    """fp16 and bf16 are as fast on an H100; a run in fp16 has no bf16 in its headline."""
    name = BF16_GEMM.replace("bf16bf16_bf16f32_f32", kernel)
    run = Run(steps_of(4, lambda t: product(t, 989_400_000_000_000, name, dtype=dtype)).trace())
    assert device_info(run.counted, run.mfu).dtype == {"c10::Half": "fp16"}.get(dtype, "bf16")


def test_the_users_peak_has_no_dtype() -> None:
    report = diagnose_run(Run(steps_of(4, mixed).trace(), Options(peak_flops=1e15))).report
    assert report.device.dtype is None
    assert wording.headline(report)[1].startswith("of the peak (264 of 1,000 TFLOP/s, given by the user)")


def attention(t: Timeline, *, causal: bool, us: int = SECOND) -> None:
    """A fused attention backward pass."""
    q: Any = [1, 16, 4096, 128]
    name = "aten::_scaled_dot_product_flash_attention_backward"
    concrete = [""] * 11 + [str(causal), "", ""]
    dims = [q] * 5 + [q[:3]] + [[]] * 8
    types = ["c10::BFloat16"] * 6 + ["Scalar"] * 8
    kernel = "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<cutlass::bfloat16_t>"
    t.op(name, kernel=us, kernel_name=kernel, dims=dims, types=types, concrete=concrete)


def test_flash_attention_recomputes_scores() -> None:
    """Backward: 4 products of model work, 5 executed; HFU is 5/4 of MFU."""
    mfu = Run(steps_of(4, lambda t: attention(t, causal=False)).trace()).mfu.report
    assert mfu.hfu == pytest.approx(1.25 * float(mfu.value or 0))
    assert mfu.recompute_flops == pytest.approx(0.25 * float(mfu.model_flops or 0))


def test_causal_attention_is_shown_beside_the_full_square() -> None:
    """The headline stays comparable with published MFU, the causal figure is what was needed, HFU what ran."""
    mfu = Run(steps_of(4, lambda t: attention(t, causal=True)).trace()).mfu.report
    needed = 4097 / (2 * 4096)
    assert mfu.causal == pytest.approx(needed * float(mfu.value or 0))
    assert mfu.hfu == pytest.approx(1.25 * needed * float(mfu.value or 0))
    assert "without its mask" in mfu.notes[0]


def test_conventions_of_others_are_labelled() -> None:
    """6N and 6N + 12LHQT from captured parameters and tokens, for comparison only."""
    trace = steps_of(4, mixed).trace()
    facts = Facts(parameter_elements=10**9, batch_shape=(8, 1024), micro_batches=2.0)
    conventions = {c.name: c for c in Run(replace(trace, facts=facts)).mfu.report.conventions}
    assert conventions["6N"].flops == 6e9 * 16_384
    assert conventions["6N"].mfu == pytest.approx(6e9 * 16_384 / 989.4e12 / 4)
    assert set(conventions) == {"6N", "6N + 12LHQT (PaLM, nanoGPT)"}


def cpu_run(facts: Facts | None = None, options: Options | None = None, kind: str = "float") -> Run:
    """Two steps of one second on a CPU with a product of 5e10 FLOP."""
    events: list[dict[str, Any]] = []
    for i in range(2):
        at = {"ph": "X", "pid": 1, "tid": 1, "ts": i * SECOND, "dur": SECOND}
        events.append(at | {"cat": "user_annotation", "name": f"ProfilerStep#{i}"})
        shapes = {"Input Dims": [[1000, 1000], [1000, 25_000]], "Input type": [kind, kind]}
        events.append(at | {"cat": "cpu_op", "name": "aten::mm", "dur": SECOND // 2, "args": shapes})
    return Run(replace(from_json(events), facts=facts), options)


def test_a_cpu_is_measured_against_its_measured_peak() -> None:
    """Against the peak of the format it used, labelled as measured."""
    peaks = (
        MeasuredPeak(dtype="bfloat16", flops=4e11, threads=2, how="measured: a product in bf16"),
        MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="measured: a product in fp32"),
    )
    run = cpu_run(Facts(measured_peaks=peaks))
    assert run.mfu.report.value == pytest.approx(0.5)
    device = device_info(run.counted, run.mfu)
    assert (device.kind, device.dtype, device.peak_flops, device.peak_measured) == ("cpu", "fp32", 1e11, True)
    assert device.peak_source == "a product in fp32"


def test_work_in_a_format_that_this_cpu_emulates_is_measured_against_the_best_it_has() -> None:
    """As bf16 on a V100 is against fp16; against the emulation's own speed the run would look fully used."""
    run = cpu_run(
        Facts(
            measured_peaks=(
                MeasuredPeak(dtype="float32", flops=4e11, threads=2, how="GEMM"),
                MeasuredPeak(dtype="bfloat16", flops=1e9, threads=2, how="GEMM"),
            )
        ),
        kind="c10::BFloat16",
    )
    assert run.mfu.report.value == pytest.approx(0.125)
    assert (run.mfu.reference, run.mfu.reference_peak) == ("fp32", 4e11)
    given = Run(run.recorded, Options(peak_flops=8e11))
    assert (given.mfu.reference, given.mfu.reference_peak) == ("fp32", 8e11)


def test_a_cpu_without_a_peak_has_no_mfu() -> None:
    """Theory is not a peak: the clock of a container is unknown."""
    mfu = cpu_run().mfu.report
    assert (mfu.value, mfu.model_flops) == (None, 5e10)
    assert "--peak-flops" in str(mfu.reason)
    assert cpu_run(options=Options(peak_flops=1e11)).mfu.report.value == pytest.approx(0.5)


def test_a_peak_for_another_format_only_is_no_peak() -> None:
    """fp32 work against a measured bf16 peak would be neither."""
    peaks = (MeasuredPeak(dtype="bfloat16", flops=4e11, threads=2, how="GEMM"),)
    mfu = cpu_run(Facts(measured_peaks=peaks)).mfu.report
    assert mfu.value is None
    assert "known for bf16, but not for fp32" in str(mfu.reason)


@pytest.mark.parametrize(
    ("trace", "dtype", "mfu", "hfu", "by_dtype"),
    [
        ("mi300x_resnet_checkpoint_rank0of8", "bf16", 0.00429, 0.00566, 0.00429),
        ("mi300x_inductor_triton", "bf16", 0.3352, 0.3352, 0.3352),
        ("v100_resnet50_workers4", "fp16", 0.0458, 0.0458, 0.3662),
    ],
)
def test_mfu_of_real_traces(trace: str, dtype: str, mfu: float, hfu: float, by_dtype: float) -> None:
    """fp32 on a V100: 39 % of the fp32 peak, and 5 % of what its tensor cores could do."""
    run = real_run(trace)
    assert run.mfu.reference == dtype
    found = run.mfu.report
    assert (found.value, found.hfu, found.by_dtype) == pytest.approx((mfu, hfu, by_dtype), rel=0.005)


def test_the_device_is_reported_with_its_peaks() -> None:
    """Everything a reader needs to check the denominator."""
    run = real_run("v100_resnet50_workers4")
    device = device_info(run.counted, run.mfu)
    assert (device.name, device.dtype, device.peak_flops) == ("Tesla V100-DGXS-32GB", "fp16", 125.3e12)
    assert (device.sms, device.bandwidth_bytes_s, device.peak_reason) == (80, 900e9, None)
    assert device.peaks["fp32"] == 15.67e12


def test_mfu_above_a_measured_peak_is_said_with_its_likely_cause() -> None:
    """A convolution or attention counts against the peak too, and no product of the run proved it too low."""
    run = cpu_run(Facts(measured_peaks=(MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="GEMM"),)))
    assert run.mfu.report.value is not None
    timed = Facts(
        measured_peaks=(MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="GEMM"),),
        timed_steps_s=(0.4, 0.4, 0.4),
    )
    found = cpu_run(timed).mfu.report
    assert (found.value, found.hfu) == (None, None)
    assert "measured on a busy machine" in str(found.reason)
    given = cpu_run(replace(timed, measured_peaks=()), Options(peak_flops=1e11)).mfu.report
    assert "check --peak-flops" in str(given.reason)
