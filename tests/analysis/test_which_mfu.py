"""What MFU is a share of, in words: the best peak of the device, and the peak of the dtype that the run computes in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.devices.table import lookup, matrix_unit
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import Facts, MeasuredPeak
from mfu_doctor.render import render
from mfu_doctor.render.words import wording
from mfu_doctor.result.report import Report
from tests.analysis.test_mfu import BF16_GEMM, FP32_GEMM, cpu_run, mixed, product, steps_of
from tests.timeline import Timeline

FP64_GEMM = "sm90_xmma_gemm_f64f64_f64f64_f64_tn_n_tilesize64x64x16"
H100 = "NVIDIA H100 80GB HBM3"


def bf16(t: Timeline) -> None:
    product(t, 989_400_000_000_000, BF16_GEMM, dtype="c10::BFloat16")


def fp32(t: Timeline) -> None:
    product(t, 66_910_000_000_000 // 2, FP32_GEMM)


def fp64(t: Timeline) -> None:
    product(t, 33_450_000_000_000, FP64_GEMM, dtype="double")


def report_of(draw: Callable[[Timeline], None], *, seconds: float = 2, device: str = H100) -> Report:
    return diagnose_run(Run(steps_of(seconds, draw, device=device).trace())).report


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (bf16, "of the bf16 tensor-core peak (495 of 989.4 TFLOP/s, H100 datasheet)"),
        (fp32, "; 25.0 % of the fp32 peak that this run computes in"),
        (mixed, "; 100.0 % of the bf16 and fp32 peaks it computes in"),
        (fp64, "of the fp64 peak that this run computes in"),
    ],
)
def test_both_peaks_are_named(draw: Callable[[Timeline], None], text: str) -> None:
    """A run in the best dtype has one peak. Any other run can be far from the best peak and near its own."""
    said = wording.headline(report_of(draw))[1]
    assert said.endswith(text)
    assert "dense" not in said


def test_every_output_says_it_with_the_same_words() -> None:
    report = report_of(fp32)
    own = "25.0 % of the fp32 peak that this run computes in"
    for output in ("terminal", "markdown", "html", "notebook"):
        said = render(report, output)
        text = " ".join((said if isinstance(said, str) else said.decode()).split())
        assert own in text, output
        assert "by each kernel" not in text


def test_a_measured_peak_is_called_measured() -> None:
    facts = Facts(measured_peaks=(MeasuredPeak(dtype="float32", flops=2e11, threads=2, how="measured: GEMM of 2048"),))
    said = wording.headline(diagnose_run(cpu_run(facts)).report)[1]
    assert said.startswith("of the fp32 peak measured here (")
    assert "core peak" not in said


@pytest.mark.parametrize(
    ("device", "unit"),
    [
        ("Tesla V100-SXM2-16GB", "tensor-core"),
        ("NVIDIA GeForce RTX 3090", "tensor-core"),
        ("Tesla P100-SXM2-16GB", None),
        ("NVIDIA GeForce GTX 1660", None),
        ("AMD Instinct MI300X", "matrix-core"),
    ],
)
def test_units_are_named_only_where_the_device_has_them(device: str, unit: str | None) -> None:
    row = lookup(device)
    assert row is not None
    assert matrix_unit(row.rate_key) == unit


def test_the_first_screen_has_no_line_more_for_it() -> None:
    """80 columns: one line instead of a line "also", and no sentence is cut."""
    rows = render(report_of(fp32), "terminal").splitlines()
    first = next(i for i, row in enumerate(rows) if row.startswith("  MFU"))
    text = " ".join(" ".join(rows[first : first + 3]).split())
    peak, own = (
        "of the bf16 tensor-core peak (16.7 of 989.4 TFLOP/s, H100 datasheet)",
        "that this run computes in 33.5 TFLOP",
    )
    assert peak in text
    assert own in text
    assert not any(row.startswith("  also") for row in rows)
