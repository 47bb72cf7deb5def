"""Which peaks hold for a trace: the user's, the table's, scaled, derived or measured ones, and never another device's."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.utilization.reached_rates import reached_rates
from mfu_doctor.devices import Peaks, resolve
from mfu_doctor.facts import Facts, GivenNumbers, HostFacts, MeasuredPeak, PrecisionFacts
from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Trace
from tests.reference import from_json
from tests.traces import real_trace


def drawn(
    name: str, major: int, minor: int, sms: int | None, *, kernel: str = "k", call: str = "cudaLaunchKernel"
) -> Trace:
    """A trace with one kernel on one device of these properties."""
    props = {"id": 0, "name": name, "computeMajor": major, "computeMinor": minor, "numSms": sms}
    events = [
        {
            "ph": "X",
            "cat": "kernel",
            "name": kernel,
            "pid": 0,
            "tid": 7,
            "ts": 5,
            "dur": 3,
            "args": {"device": 0, "stream": 7},
        },
        {"ph": "X", "cat": "cuda_runtime", "name": call, "pid": 1, "tid": 1, "ts": 1, "dur": 2, "args": {}},
    ]
    return from_json({"deviceProperties": [props], "traceEvents": events})


def with_facts(trace: Trace, facts: Facts) -> Trace:
    """The same trace with captured facts."""
    from msgspec.structs import replace

    return replace(trace, facts=facts)


def test_an_exact_name_resolves_to_its_row() -> None:
    """The ordinary case: no warning, the vendor's figure, the row's bandwidth."""
    peaks = resolve(drawn("NVIDIA A100-SXM4-80GB", 8, 0, 108), None, is_cpu=False)
    assert peaks.of("bf16") == 311.9e12
    assert peaks.of("tf32") == 155.9e12
    assert (peaks.best, peaks.bandwidth, peaks.confidence, peaks.warnings) == ("bf16", 2039e9, "vendor", ())
    assert peaks.source == "A100 datasheet"
    assert (peaks.of("fp8"), peaks.of(None), peaks.reason) == (None, None, None)


def test_a_mig_slice_scales_by_its_multiprocessors() -> None:
    """60 of 132 multiprocessors are 60/132 of the peak; the slice's bandwidth is not published."""
    peaks = resolve(drawn("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 9, 0, 60), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(989.4e12 * 60 / 132)
    assert peaks.bandwidth is None
    assert peaks.confidence == "scaled"
    assert "60 SMs" in peaks.warnings[0]


def test_a_mig_slice_of_unknown_size_has_no_peak() -> None:
    """Without the unit count the whole board's peak would be claimed for a seventh of it."""
    peaks = resolve(drawn("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9, 0, None), None, is_cpu=False)
    assert peaks.dense == {}
    assert "--peak-flops" in str(peaks.reason)


def test_a_cut_down_variant_scales_and_keeps_its_bandwidth() -> None:
    """The 12 GB RTX 3080 carries the same name with 70 instead of 68 multiprocessors."""
    peaks = resolve(drawn("NVIDIA GeForce RTX 3080", 8, 6, 70), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(59.54e12 * 70 / 68)
    assert peaks.bandwidth == 760e9


def test_a_published_figure_is_not_scaled_by_a_doubtful_unit_count() -> None:
    """GB200's 2,500 TFLOP/s is published, its multiprocessor count is not."""
    assert resolve(drawn("NVIDIA GB200", 10, 0, 148), None, is_cpu=False).of("bf16") == 2500e12


@pytest.mark.parametrize(
    ("name", "cc", "sms", "bf16"),
    [
        ("NVIDIA A10-12Q", (8, 6), 72, 72 * 1024 * 1.665e9),
        ("NVIDIA GeForce RTX 3090 Super Imaginary", (8, 6), 84, 84 * 512 * 1.71e9),
        ("NVIDIA H123 Imaginary", (9, 0), 132, 132 * 4096 * 1.83e9),
    ],
)
def test_an_unlisted_name_is_derived_from_its_architecture_and_flagged(
    name: str, cc: tuple[int, int], sms: int, bf16: float
) -> None:
    """Units x typical clock x rate; GeForce at half rate; always with a warning."""
    peaks = resolve(drawn(name, *cc, sms), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(bf16, rel=0.05)
    assert peaks.confidence == "derived"
    assert name in peaks.warnings[0]


def test_the_vendor_is_decided_before_the_compute_capability() -> None:
    """CC 9.0 with 104 units: an MI250 where the calls are hip*, and on CUDA a Hopper slice."""
    amd = resolve(drawn("", 9, 0, 104, call="hipLaunchKernel"), None, is_cpu=False)
    assert amd.of("bf16") == pytest.approx(181e12, rel=0.001)
    hopper = resolve(drawn("", 9, 0, 104, call="cudaLaunchKernel"), None, is_cpu=False)
    assert hopper.of("bf16") == pytest.approx(104 * 4096 * 1.83e9, rel=0.01)
    assert resolve(drawn("", 9, 0, 104, call="launch"), None, is_cpu=False).dense == {}


def test_tensile_isa_names_the_chip() -> None:
    """A Tensile kernel's ISA is firmer than the compute capability."""
    peaks = resolve(drawn("", 9, 0, 64, kernel="Cijk_Ailk_Bjlk_BBS_BH_MT64x16x16_ISA942_IU1"), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(64 * 2048 * 2.1e9)


def test_an_unknown_device_has_no_peak_and_says_which_flag_gives_one() -> None:
    """Never an A100, never infinity, never zero."""
    peaks = resolve(drawn("Groq LPU", 1, 0, 1, call="launch"), None, is_cpu=False)
    assert (peaks.dense, peaks.best) == ({}, None)
    assert peaks.reason == (
        'no peak for "Groq LPU": pass --peak-flops with the device\'s dense FLOP/s for the dtype in use'
    )


def test_the_users_peak_wins_and_a_sparse_one_is_questioned() -> None:
    """1,979 TFLOP/s is the H100's figure with structured sparsity, twice the dense one."""
    h100 = drawn("NVIDIA H100 80GB HBM3", 9, 0, 132)
    sparse = resolve(h100, 1979e12, is_cpu=False)
    assert sparse.of("bf16") == sparse.given == 1979e12
    assert "2x the dense value" in sparse.warnings[-1]
    honest = resolve(h100, 800e12, is_cpu=False)
    assert (honest.of("bf16"), honest.source, honest.warnings) == (800e12, "given by the user", ())
    assert honest.of("fp32") == 66.91e12


def test_a_peak_given_to_profile_travels_in_the_facts() -> None:
    """The option wins over it, it wins over the table."""
    trace = with_facts(drawn("Groq LPU", 1, 0, 1), Facts(given=GivenNumbers(peak_flops=7e14)))
    assert resolve(trace, None, is_cpu=False).of("bf16") == 7e14
    assert resolve(trace, 5e14, is_cpu=False).of("bf16") == 5e14


def test_fp16_accumulation_doubles_the_fp16_peak_on_geforce_only() -> None:
    """The switch that makes the marketing figure reachable, for fp16 and not for bf16."""
    facts = Facts(precision=PrecisionFacts(fp16_accumulation=True))
    geforce = resolve(with_facts(drawn("NVIDIA GeForce RTX 3090", 8, 6, 82), facts), None, is_cpu=False)
    assert geforce.of("fp16") == pytest.approx(2 * 71.16e12)
    assert geforce.of("bf16") == pytest.approx(71.16e12)
    a100 = resolve(with_facts(drawn("NVIDIA A100-SXM4-80GB", 8, 0, 108), facts), None, is_cpu=False)
    assert a100.of("fp16") == pytest.approx(311.9e12)


CPU_ONLY = from_json([{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 0, "dur": 5}])


def test_a_cpu_has_no_peak_unless_it_was_measured_or_given() -> None:
    """A container cannot read its CPU's sustained clock, so theory would be a guess."""
    peaks = resolve(CPU_ONLY, None, is_cpu=True)
    assert (peaks.dense, peaks.kind) == ({}, "cpu")
    assert "mfu_doctor.profile()" in str(peaks.reason)
    given = resolve(CPU_ONLY, 1.6e11, is_cpu=True)
    assert (given.of("fp32"), given.measured) == (1.6e11, False)


def test_a_measured_cpu_peak_is_labelled() -> None:
    """MFU against a measured peak is MFU*, never mixed with MFU against a datasheet."""
    measured = (
        MeasuredPeak(dtype="float32", flops=1.66e11, threads=2, how="measured: best GEMM 2048^3 with 2 threads"),
    )
    facts = Facts(measured_peaks=measured, host=HostFacts(cpu="AMD EPYC"))
    peaks = resolve(with_facts(CPU_ONLY, facts), None, is_cpu=True)
    assert (peaks.of("fp32"), peaks.measured, peaks.name) == (1.66e11, True, "AMD EPYC")
    assert peaks.source == "best GEMM 2048^3 with 2 threads"


def test_a_format_slower_than_fp32_has_no_peak_on_a_cpu() -> None:
    """A processor without bf16 emulates it: against the emulation's own speed a run a hundred times too slow would look fine."""
    measured = tuple(
        MeasuredPeak(dtype=dtype, flops=flops, threads=2, how="measured")
        for dtype, flops in (("float32", 1.66e11), ("bfloat16", 1.4e9), ("float16", 2e11), ("float64", 8e10))
    )
    peaks = resolve(with_facts(CPU_ONLY, Facts(measured_peaks=measured)), None, is_cpu=True)
    assert peaks.emulated == {"bf16"}
    assert set(peaks.dense) == {"fp32", "fp16", "fp64"}
    assert peaks.warnings == ()
    given = resolve(with_facts(CPU_ONLY, Facts(measured_peaks=measured)), 2e11, is_cpu=True)
    assert (given.of("fp32"), given.of("bf16")) == (2e11, None)


@pytest.mark.parametrize(
    ("trace", "bf16", "fp32"),
    [
        ("mi250_minitoy_train.pt.trace.json.gz", 181e12, 45.26e12),
        ("a100_alexnet_sync_events.pt.trace.json.gz", 311.9e12, 19.49e12),
        ("vllm_decode_graph.pt.trace.json.gz", 1307.4e12, 163.4e12),
        ("mi300x_inductor_triton.pt.trace.json.gz", 1307e12, 163.4e12),
        ("h100_bert_small_inference.pt.trace.json.gz", 989.4e12, 66.91e12),
    ],
)
def test_devices_of_real_traces(trace: str, bf16: float, fp32: float) -> None:
    """Real names no other table has: `AMD Radeon Graphics` (an MI250 die), a pre-production A100, an empty name."""
    peaks = resolve(read_trace(real_trace(trace)), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(bf16, rel=0.001)
    assert peaks.of("fp32") == pytest.approx(fp32, rel=0.001)


def test_the_bandwidth_measured_beside_a_cpu_peak_is_the_devices() -> None:
    """Without it the roofline of a CPU has no slope, and nothing knows the least time of memory traffic."""
    measured = tuple(
        MeasuredPeak(dtype=dtype, flops=flops, threads=2, how="measured", bandwidth_bytes_s=bandwidth)
        for dtype, flops, bandwidth in (
            ("float32", 1.66e11, None),
            ("bfloat16", 4e11, 4.1e10),
            ("float64", 8e10, 4.7e10),
        )
    )
    peaks = resolve(with_facts(CPU_ONLY, Facts(measured_peaks=measured)), None, is_cpu=True)
    assert peaks.bandwidth == 4.7e10  # each was measured on its own; a busy machine makes it only smaller
    unknown = resolve(with_facts(CPU_ONLY, Facts(measured_peaks=measured[:1])), None, is_cpu=True)
    assert unknown.bandwidth is None


def peaks_of(trace: Trace) -> Peaks:
    """The peaks of a CPU run as `Run` resolves them: with what its own matmuls reached."""
    return resolve(trace, None, is_cpu=True, reached=reached_rates(trace))


def with_products(*durations_us: float, name: str = "aten::mm", kind: str = "float") -> Trace:
    """Products of 1000 x 1000 matrices on a CPU (2 GFLOP each) beside a measured peak of 100 GFLOP/s."""
    dims = {"aten::mm": [[1000, 1000], [1000, 1000]], "aten::addmm": [[1000], [1000, 1000], [1000, 1000], [], []]}
    types = {"aten::mm": [kind, kind], "aten::addmm": [kind, kind, kind, "Scalar", "Scalar"]}
    args = {"Input Dims": dims[name], "Input type": types[name]}
    events = [
        {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": i * 1e6, "dur": duration, "args": args}
        for i, duration in enumerate(durations_us)
    ]
    measured = (MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="measured"),)
    return with_facts(from_json(events), Facts(measured_peaks=measured))


@pytest.mark.parametrize("name", ["aten::mm", "aten::addmm"])
def test_a_measured_peak_is_never_below_what_the_run_itself_reached(name: str) -> None:
    """The machine was busy while its peak was measured: MFU against that figure would be flattery."""
    peaks = peaks_of(with_products(30_000, 10_000, 20_000, name=name))
    assert peaks.of("fp32") == pytest.approx(2e11)
    (warning,) = peaks.warnings
    assert "(100 GFLOP/s) is too low" in warning
    assert "reached 200" in warning


@pytest.mark.parametrize("has_strides", [True, False])
def test_a_sparse_matrix_times_a_dense_one_reached_nothing(*, has_strides: bool) -> None:
    """A graph of 20,000 nodes as a CSR matrix: taken as dense, its product made a peak of 19.3 TFLOP/s of two cores."""
    dims, types = [[1000, 8], [1000, 1000], [1000, 8], [], []], ["float"] * 3 + ["Scalar"] * 2
    args = {"Input Dims": dims, "Input type": types}
    if has_strides:
        args["Input Strides"] = [[8, 1], [], [8, 1], [], []]
    at = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1}
    around = at | {"name": "aten::linear" if has_strides else "aten::_sparse_mm", "ts": 0, "dur": 120}
    trace = from_json([around, at | {"name": "aten::addmm", "ts": 10, "dur": 101, "args": args}])
    assert reached_rates(trace) == {}


def test_a_product_at_which_recomputation_stopped_reached_nothing() -> None:
    """Checkpointing stops inside an operator that has not computed: 136 us for 268 MFLOP made a 2-core peak of 2 TFLOP/s."""
    args = {"Input Dims": [[1000, 1000], [1000, 1000]], "Input type": ["float", "float"], "Sequence number": 7}
    at = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1}
    node = {"name": "autograd::engine::evaluate_function: AddmmBackward0", "args": {"Sequence number": 5}}
    events = [
        at | node | {"ts": 0, "dur": 90_000},
        at | {"name": "aten::mm", "ts": 100, "dur": 150, "args": args},
        at | {"name": "aten::mm", "ts": 100_000, "dur": 25_000, "args": args | {"Sequence number": 5}},
    ]
    facts = Facts(measured_peaks=(MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="measured"),))
    peaks = peaks_of(with_facts(from_json(events), facts))
    assert (peaks.dense, peaks.warnings) == ({"fp32": 1e11}, ())


def test_a_product_below_the_measured_peak_or_of_another_format_or_too_short_to_time_changes_nothing() -> None:
    for trace in (
        with_products(25_000),
        with_products(19_900),  # within what a measurement is good for
        with_products(10_000, kind="double"),
        with_products(50),
    ):
        peaks = peaks_of(trace)
        assert (peaks.dense, peaks.warnings) == ({"fp32": 1e11}, ())
