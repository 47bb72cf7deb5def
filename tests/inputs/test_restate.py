"""A saved report with another peak or other FLOPs: it says what a new diagnosis would say, or that it does not know."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

import mfu_doctor
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.restate import restated
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.render import render
from mfu_doctor.result.findings import FAILED
from mfu_doctor.result.report import Baseline, Report
from mfu_doctor.result.run import Mfu
from mfu_doctor.trace import Trace
from tests.timeline import Timeline

PEAK = 200e12
KNOWN, UNKNOWN = "NVIDIA A100-SXM4-80GB", "Prototype 9000"


def drawn(device: str = KNOWN, *, flops: bool = True) -> Trace:
    """A drawn run that waits for its loader."""
    timeline = Timeline(device=device, sms=108 if device == KNOWN else 0)  # without SMs no peak can be derived
    for _ in range(5):
        with timeline.step():
            timeline.fetch(4000)
            for _ in range(20):
                if flops:
                    kinds = ["c10::BFloat16"] * 2
                    timeline.op("aten::mm", kernel=60, dims=[[512, 512], [512, 512]], types=kinds)
                else:
                    timeline.op("aten::relu", kernel=60)
            timeline.item()
    return timeline.trace()


def report_of(device: str = KNOWN, *, flops: bool = True) -> Report:
    return mfu_doctor.diagnose(drawn(device, flops=flops))


def again(report: Report, **stated: Any) -> Report:
    return restated(report, Overrides(**stated), Settings())


def ours(report: Report) -> list[str]:
    return [text for text in report.cautions if "not recalculated" in text]


def test_an_mfu_of_several_dtypes_stays_unknown_when_restated_twice() -> None:
    report = report_of()
    assert report.mfu.value is not None
    mixed = replace(report, mfu=replace(report.mfu, value=report.mfu.value / 2))
    once = again(mixed, peak_flops=PEAK)
    twice = again(once, peak_flops=2 * PEAK)
    assert (once.mfu.value, twice.mfu.value) == (None, None)
    assert "several dtypes" in str(twice.mfu.reason)
    assert len(ours(twice)) == 1
    assert "still unknown" in ours(twice)[0]


def test_no_mfu_after_a_fix_is_above_100_percent() -> None:
    report = report_of()
    assert report.mfu.value is not None
    assert report.mfu.achieved_flops_s is not None
    assert report.plan.steps
    fitting = again(report, peak_flops=2 * report.mfu.achieved_flops_s)
    assert fitting.mfu.value == pytest.approx(0.5)
    shares = [s.mfu for s in fitting.plan.steps] + [fitting.plan.mfu_low, fitting.plan.mfu_high]
    shares += [v for d in fitting.diagnoses if d.saving for v in (d.saving.mfu_low, d.saving.mfu_high)]
    assert None in shares
    assert all(share is None or share <= 1 for share in shares)


def test_flops_without_a_peak_are_kept_for_a_later_peak() -> None:
    report = report_of(UNKNOWN)
    without = again(report, model_flops=1e9)
    assert without.step_time_s is not None
    achieved = 1e9 / without.step_time_s.median
    assert (without.mfu.value, without.mfu.method, without.mfu.model_flops) == (None, "given", 1e9)
    assert without.mfu.achieved_flops_s == pytest.approx(achieved)
    assert without.mfu.reason == report.mfu.reason
    assert not any("MFU is recalculated" in text for text in without.cautions)
    assert len(ours(without)) == 1
    assert again(without, peak_flops=PEAK).mfu.value == pytest.approx(achieved / PEAK)


def test_flops_of_a_report_without_a_step_change_nothing() -> None:
    report = replace(report_of(), step_time_s=None, mfu=Mfu(reason="no step"))
    assert again(report, model_flops=1e9) == report
    both = again(report, model_flops=1e9, peak_flops=PEAK)
    assert "per step" not in both.cautions[-1]


def test_a_peak_without_flops_changes_the_device_and_claims_no_mfu() -> None:
    report = report_of(flops=False)
    assert report.mfu.model_flops is None
    changed = again(report, peak_flops=PEAK)
    assert changed.device.peak_flops == PEAK
    assert changed.mfu == report.mfu
    assert not any("MFU is recalculated" in text for text in changed.cautions)


def test_a_peak_makes_the_unknown_one_known_everywhere() -> None:
    report, anew = report_of(UNKNOWN), mfu_doctor.diagnose(drawn(UNKNOWN), peak_flops=PEAK)
    unknown = report.diagnosis("unknown-peak")
    assert unknown is not None
    assert unknown.status == FAILED
    changed = again(report, peak_flops=PEAK)
    assert changed.device == anew.device
    assert changed.device.dtype is None  # the user's peak is of whatever dtype is in use
    assert changed.mfu.value == pytest.approx(anew.mfu.value)
    assert changed.diagnosis("unknown-peak") == anew.diagnosis("unknown-peak")
    assert unknown.summary not in changed.cautions
    assert unknown.summary not in render(changed, "terminal")


def test_a_cpu_without_a_peak_gets_the_stated_one_for_every_dtype() -> None:
    report = report_of(UNKNOWN)
    cpu = replace(report, device=replace(report.device, kind="cpu"))
    device = again(cpu, peak_flops=1e12).device
    assert device.dtype is None
    assert device.peaks["fp32"] == device.peaks["bf16"] == 1e12


def test_only_the_last_restatement_is_a_caution() -> None:
    twice = again(again(report_of(), peak_flops=PEAK), peak_flops=2 * PEAK)
    assert len(ours(twice)) == 1
    assert "400 TFLOP/s" in ours(twice)[0]


def test_the_baseline_follows_the_peak_and_is_unknown_with_other_flops() -> None:
    report = report_of()
    assert report.step_time_s is not None
    assert report.device.peak_flops is not None
    based = replace(report, baseline=Baseline(trace="old", step_time_s=report.step_time_s, mfu=0.1))
    scaled, unknown = again(based, peak_flops=PEAK).baseline, again(based, model_flops=1e9).baseline
    assert scaled is not None
    assert unknown is not None
    assert scaled.mfu == pytest.approx(0.1 * report.device.peak_flops / PEAK)
    assert unknown.mfu is None


def test_kernels_of_every_dtype_follow_the_new_peaks() -> None:
    report = report_of()
    row = next(k for k in report.kernels if k.achieved_flops_s)
    every = replace(report, kernels=tuple(replace(row, dtype=dtype) for dtype in ("bf16", "fp16", "tf32")))
    changed = again(every, peak_flops=100e12)
    assert row.achieved_flops_s is not None
    for kernel in changed.kernels:
        assert kernel.dtype is not None
        share = row.achieved_flops_s / changed.device.peaks[kernel.dtype]
        assert kernel.peak_share == (pytest.approx(share) if share <= 1 else None)
    assert changed.device.peaks["tf32"] == 100e12


def test_a_peak_below_what_the_run_reached_is_an_error_and_no_mfu() -> None:
    report = report_of()
    achieved = report.mfu.achieved_flops_s
    assert achieved is not None
    changed = again(report, peak_flops=achieved / 2)
    assert (changed.mfu.value, changed.mfu.hfu) == (None, None)
    assert changed.mfu.calculated == pytest.approx(2.0)
    assert "200.0 % is calculated, which cannot be: check the value of --peak-flops" in str(changed.mfu.reason)
    assert "MFU unknown" in render(changed, "terminal")
    assert again(changed, peak_flops=achieved * 2).mfu.value == pytest.approx(0.5)


def test_the_hfu_alone_can_be_above_100_percent() -> None:
    report = report_of()
    achieved = report.mfu.achieved_flops_s
    assert achieved is not None
    assert report.mfu.value is not None
    report = replace(report, mfu=replace(report.mfu, hfu=report.mfu.value * 3))
    changed = again(report, peak_flops=achieved * 2).mfu
    assert changed.value == pytest.approx(0.5)
    assert changed.hfu is None
    assert [note for note in changed.notes if note.startswith("HFU is not stated: 150.0 % is calculated")]


def test_a_wide_interval_stays_unknown_with_another_peak() -> None:
    report = report_of()
    achieved = report.mfu.achieved_flops_s
    assert achieved is not None
    wide = replace(
        report.mfu, value=None, calculated=report.mfu.value, upper=(report.mfu.value or 0.0) + 0.7, reason="wide"
    )
    changed = again(replace(report, mfu=wide), peak_flops=achieved * 10).mfu
    assert changed.value is None
    assert changed.calculated == pytest.approx(0.1)
    assert "all that is known is 10.0 % to 80.0 %" in str(changed.reason)


def test_a_report_without_its_losses_says_why_on_the_page_and_in_the_terminal() -> None:
    changed = again(report_of(), peak_flops=PEAK)
    page, text = render(changed, "html"), render(changed, "terminal", verbose=True)
    assert "Pass the trace to calculate this table." in page
    assert "the trace contains no complete step" not in page
    assert "Pass the trace to calculate this table." in " ".join(text.split())
