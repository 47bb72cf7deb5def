"""The device table and its lookup: the right row for every real name, no row for a name that only looks alike."""

from __future__ import annotations

import re

import pytest

from mfu_doctor.devices import lookup, resolve
from mfu_doctor.devices.table import device_rows, rates
from mfu_doctor.facts import Facts, GivenNumbers, HostFacts, MeasuredPeak, PrecisionFacts
from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Trace
from tests.reference import from_json
from tests.traces import real_trace

# Names as drivers spell them (each must hit exactly one row) and the bf16 (else fp16) dense peak in TFLOP/s.
NAMES = {
    "Tesla V100-SXM2-16GB": 125.3,
    "Tesla V100-SXM2-32GB": 125.3,
    "Tesla V100-DGXS-32GB": 125.3,
    "Tesla V100-PCIE-16GB": 113,
    "Tesla V100S-PCIE-32GB": 130.8,
    "Tesla T4": 65.13,
    "NVIDIA T4G": 65.13,
    "TITAN RTX": 130.5,
    "Quadro RTX 6000": 130.5,
    "Quadro RTX 8000": 130.5,
    "NVIDIA GeForce RTX 2080 Ti": 53.79,
    "NVIDIA A100-SXM4-40GB": 311.9,
    "NVIDIA A100-SXM4-80GB": 311.9,
    "A100-SXM4-80GB": 311.9,
    "NVIDIA A100-PCIE-40GB": 311.9,
    "NVIDIA A100 80GB PCIe": 311.9,
    "NVIDIA A100-PG509-200": 311.9,
    "NVIDIA A800-SXM4-80GB": 311.9,
    "NVIDIA A800 80GB PCIe": 311.9,
    "NVIDIA A800 40GB Active": 311.9,
    "NVIDIA A30": 165.2,
    "NVIDIA A10": 125,
    "NVIDIA A10G": 70.04,
    "NVIDIA A40": 149.7,
    "NVIDIA A16": 17.97,
    "NVIDIA A2": 18.12,
    "NVIDIA RTX A2000": 31.95,
    "NVIDIA RTX A4000": 76.68,
    "NVIDIA RTX A4500": 94.62,
    "NVIDIA RTX A5000": 111.1,
    "NVIDIA RTX A5500": 136.4,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA GeForce RTX 3060": 25.48,
    "NVIDIA GeForce RTX 3070": 40.63,
    "NVIDIA GeForce RTX 3080": 59.54,
    "NVIDIA GeForce RTX 3090": 71.16,
    "NVIDIA GeForce RTX 3090 Ti": 79.99,
    "NVIDIA L4": 121.2,
    "NVIDIA L40": 181,
    "NVIDIA L40G": 181,
    "NVIDIA L40S": 362.1,
    "NVIDIA L20": 118.7,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA RTX 5880 Ada Generation": 277.1,
    "NVIDIA RTX 4000 Ada Generation": 106.9,
    "NVIDIA GeForce RTX 4060": 30.23,
    "NVIDIA GeForce RTX 4070": 58.29,
    "NVIDIA GeForce RTX 4070 Ti": 80.18,
    "NVIDIA GeForce RTX 4080": 97.47,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 4090 Laptop GPU": 79.38,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.4,
    "NVIDIA H100 NVL": 835.3,
    "NVIDIA H200": 989.4,
    "NVIDIA H200 NVL": 835.3,
    "NVIDIA H800": 989.4,
    "NVIDIA H800 PCIe": 756.4,
    "NVIDIA H20": 148,
    "NVIDIA H20-3e": 148,
    "NVIDIA GH200 480GB": 989.4,
    "NVIDIA GH200 120GB": 989.4,
    "NVIDIA GH200 144G HBM3e": 989.4,
    "NVIDIA B100": 1750,
    "NVIDIA B200": 2250,
    "NVIDIA GB200": 2500,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA GB300": 2500,
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 503.8,
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": 503.8,
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": 438.9,
    "NVIDIA RTX PRO 5000 Blackwell": 257.9,
    "NVIDIA GeForce RTX 5060 Ti": 47.41,
    "NVIDIA GeForce RTX 5070": 61.73,
    "NVIDIA GeForce RTX 5080": 112.6,
    "NVIDIA GeForce RTX 5090": 209.5,
    "NVIDIA GB10": 125,
    "NVIDIA Thor": 258,
    "Orin": 42.6,
    "AMD Instinct MI100": 92.28,
    "AMD Instinct MI210": 181,
    "AMD Instinct MI250X": 191.5,
    "AMD Instinct MI250X / MI250": 191.5,
    "AMD Instinct MI300A": 980.6,
    "AMD Instinct MI300X": 1307,
    "AMD Instinct MI325X": 1307,
    "AMD Instinct MI350X": 2307,
    "AMD Instinct MI355X": 2517,
    "AMD Radeon RX 7900 XTX": 122.8,
    "AMD Radeon RX 9070 XT": 194.6,
    "Intel(R) Data Center GPU Max 1550": 838.9,
    "Intel(R) Arc(TM) A770 Graphics": 137.6,
    "GAUDI2": 432,
    "GAUDI3": 1835,
    "TPU v5p": 459,
    "TPU v5e": 197,
    "Trainium2": 667,
    "Apple M4 Max": 16.16,
}

LOOK_ALIKES = (
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
    "GRID A100-40C",
    "NVIDIA A10-12Q",
    "NVIDIA L40S-48Q",
    "AMD Radeon Graphics",
    "NVIDIA GeForce RTX 2080 Super with Max-Q Design",
    "NVIDIA GeForce RTX 2070 Laptop GPU",
    "NVIDIA RTX A4000 Laptop GPU",
    "NVIDIA RTX 5000 Ada Generation Laptop GPU",
    "NVIDIA A100",
    "",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_name_hits_exactly_one_row(name: str) -> None:
    """Other tools match by substring: `NVIDIA L40S` becomes an L4, `RTX A4000` an A40."""
    assert len([row for row in device_rows() if row.pattern.search(name)]) == 1
    row = lookup(name)
    assert row is not None
    assert row.dense.get("bf16", row.dense.get("fp16")) == pytest.approx(NAMES[name] * 1e12)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_name_that_only_looks_alike_hits_no_row(name: str) -> None:
    """Slices, virtual GPUs and laptops run at other rates than the board whose name they contain."""
    assert lookup(name) is None


def test_laptop_boards_have_rows_of_their_own() -> None:
    """A laptop's 4090 has 76 of the desktop board's 128 multiprocessors."""
    laptop, desktop = lookup("NVIDIA GeForce RTX 4090 Laptop GPU"), lookup("NVIDIA GeForce RTX 4090")
    assert laptop is not None
    assert desktop is not None
    assert (laptop.sms, desktop.sms) == (76, 128)


def test_every_row_names_its_source_and_confidence() -> None:
    """A peak without a source cannot be argued with."""
    counted = {c: sum(row.confidence == c for row in device_rows()) for c in ("vendor", "derived", "unverified")}
    assert counted == {"vendor": 99, "derived": 64, "unverified": 16}
    assert all(len(row.source) > 3 and row.dense for row in device_rows())


def test_vendor_figures_are_reproduced_by_units_times_clock_times_rate() -> None:
    """Each published figure must follow from first principles within 1.2 %, or a typo has crept into the table."""
    checked = 0
    for row in device_rows():
        if (
            row.confidence != "vendor"
            or not row.rate_key
            or not row.boost_hz
            or not row.sms
            or "H20" in row.pattern.pattern
        ):
            continue
        for dtype in ("fp16", "bf16", "tf32"):
            rate = rates()[row.rate_key].get(dtype)
            if rate is None or dtype not in row.dense:
                continue
            checked += 1
            assert row.dense[dtype] == pytest.approx(row.sms * row.boost_hz * rate, rel=0.012), (row.source, dtype)
    assert checked > 150


def test_only_formats_that_the_device_computes_have_a_peak() -> None:
    """A V100 has no bf16 units and an A100 no fp8 ones: an absent peak is absent, not zero."""
    v100, a100 = lookup("Tesla V100-SXM2-16GB"), lookup("NVIDIA A100-SXM4-80GB")
    assert v100 is not None
    assert a100 is not None
    assert "bf16" not in v100.dense
    assert "fp8" not in a100.dense


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
    from dataclasses import replace

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
    assert "60 multiprocessors" in peaks.warnings[0]


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
    measured = (MeasuredPeak(dtype="float32", flops=1.66e11, threads=2, how="GEMM 2048^3"),)
    facts = Facts(measured_peaks=measured, host=HostFacts(cpu="AMD EPYC"))
    peaks = resolve(with_facts(CPU_ONLY, facts), None, is_cpu=True)
    assert (peaks.of("fp32"), peaks.measured, peaks.name) == (1.66e11, True, "AMD EPYC")
    assert peaks.source == "measured here: GEMM 2048^3, 2 threads"


def test_launches_without_device_events_are_not_a_cpu_run() -> None:
    """CUPTI was missing: measuring the host's op times against a CPU peak would be nonsense."""
    events = [{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "ts": 1, "dur": 2}]
    peaks = resolve(from_json(events), None, is_cpu=True)
    assert peaks.kind == "gpu"
    assert "no device events" in str(peaks.reason)


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


def test_the_table_holds_one_pattern_per_line_that_cannot_match_inside_a_longer_name() -> None:
    """Unanchored patterns are how substring tables went wrong."""
    for row in device_rows():
        assert row.pattern.pattern.startswith("^")
        assert row.pattern.pattern.endswith("$")
        assert row.pattern.flags & re.IGNORECASE
