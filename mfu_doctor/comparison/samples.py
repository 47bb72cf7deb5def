"""Samples and comparability: what several runs measured together, and whether two sets of runs may be compared at all.

A check that compares two single numbers, or an H100 with an A100, gives false alarms. So a value comes with the spread of its
steps, and runs with different devices or different work are not compared; the error names the difference.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from mfu_doctor.comparison.measures import SECONDS, SHARE, Measure
from mfu_doctor.devices.peaks import GIVEN
from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.result.findings import FAILED
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import RECORDED, Breakdown, StepTime, step_time_of
from mfu_doctor.units import GIGA

MIN_SAMPLES = 3  # steps: with fewer, a median absolute deviation says nothing
NOISE_FACTOR = 2.0  # a change is real beyond this many joint spreads
WORK_TOLERANCE = 1e-3  # relative: model FLOPs of the same work agree to rounding; another batch size does not

_MINOR = re.compile(r"(\d{1,9}\.\d{1,9})")


class Sample(Struct, frozen=True):
    """What some measurements say together, and how far it may be off by chance (None with fewer than `MIN_SAMPLES`)."""

    value: float
    spread: float | None
    n: int


def pool(values: Sequence[float]) -> Sample:
    """Median and median absolute deviation of the values, which must not be empty."""
    middle = statistics.median(values)
    spread = statistics.median(abs(value - middle) for value in values) if len(values) >= MIN_SAMPLES else None
    return Sample(middle, spread, len(values))


def joint_spread(a: Sample, b: Sample) -> float | None:
    """Spread of a difference of two medians: independent spreads add in squares; None if either is unknown."""
    if a.spread is None or b.spread is None:
        return None
    return math.hypot(a.spread, b.spread)


def beyond_noise(difference: float, spread: float | None) -> bool | None:
    """Whether a difference exceeds `NOISE_FACTOR` spreads; None if the spread is unknown."""
    return None if spread is None else abs(difference) > NOISE_FACTOR * spread


def step_sample(reports: Sequence[Report]) -> Sample:
    """Step time in seconds: of one run what its report states, of several the median of what their reports state.

    A run that something else on the machine slowed must not decide for the others, and each run is judged by its throughput.

    Raises:
        DoctorError: a run has no complete step.
    """
    times = [_judgeable(report) for report in reports]
    if len(times) == 1:
        return Sample(times[0].stated, times[0].spread if times[0].n >= MIN_SAMPLES else None, times[0].n)
    values = [value for time in times for value in (time.samples or (time.stated,))]
    whole = step_time_of(values, RECORDED)
    stated = statistics.median(time.stated for time in times)
    return Sample(stated, whole.spread if whole.n >= MIN_SAMPLES else None, whole.n)


def share_sample(reports: Sequence[Report], bucket: str) -> Sample:
    """A bucket's share of the step: the median over the runs, spread over all their steady steps."""
    value = statistics.median(report.breakdown.share(bucket) for report in reports)
    steady = [row.split.share(bucket) for report in reports for row in report.steps if row.steady]
    return Sample(value, pool(steady).spread if steady else None, max(len(steady), len(reports)))


def bucket_sample(reports: Sequence[Report], seconds_of: Callable[[Breakdown], float]) -> Sample:
    """Seconds that `seconds_of` reads from a split: the median over the runs, spread over their steady steps."""
    value = statistics.median(seconds_of(report.breakdown) for report in reports)
    steady = [seconds_of(row.split) for report in reports for row in report.steps if row.steady]
    return Sample(value, pool(steady).spread if steady else None, max(len(steady), len(reports)))


def measure_sample(reports: Sequence[Report], measure: Measure) -> Sample | None:
    """What the runs measured for a budget, or None if at least one of them does not know."""
    counts = [report.structure.get(measure.name) for report in reports]
    known = [count for count in counts if count is not None]
    if (measure.structural or measure.of_job) and len(known) < len(counts):
        return None
    if measure.unit == SECONDS:
        return step_sample(reports)
    if measure.of_job:  # a mean over the recorded steps; how it varies among them is not kept
        return Sample(statistics.median(known), pool(known).spread, len(known))
    if measure.structural:
        return Sample(statistics.median(known), 0.0, len(known))
    if measure.unit == SHARE and measure.name != "mfu":
        return share_sample(reports, measure.name) if all(report.breakdown.step_s for report in reports) else None
    values = [report.mfu.value for report in reports]
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        return None
    value, steps = statistics.median(known), step_sample(reports)
    # MFU is a constant over the step time, so it wavers by the same fraction
    return Sample(value, None if steps.spread is None else value * steps.spread / steps.value, steps.n)


def _judgeable(report: Report) -> StepTime:
    """The step time of the report, if it has a step and device events."""
    if report.device.unseen is not None:
        raise DoctorError(f"{report.run.trace} cannot be judged: {report.device.unseen}", "record its GPU kernels")
    lost = report.diagnosis("missing-gpu-events")
    if lost is not None and lost.status == FAILED:
        raise DoctorError(f"{report.run.trace} has no GPU events ({lost.summary})", lost.fix or "")
    time = report.step_time_s
    if time is None or time.n < 1 or not time.stated > 0:
        raise DoctorError(f"{report.run.trace} has no complete step", "record at least one whole optimizer step")
    return time


def _torch_minor(report: Report) -> str | None:
    match = _MINOR.match(report.run.versions.get("torch", ""))
    return match.group(1) if match else None


def _count(report: Report) -> str:
    return str(report.run.world_size if report.run.world_size is not None else report.device.count)


def _timing(report: Report) -> str | None:
    return report.step_time_s.source if report.step_time_s else None


DEVICE, COUNT, DTYPE, MODEL_FLOPS, TORCH, TIMING = "device", "count", "dtype", "model-flops", "torch", "timing"

_KEYS: dict[str, Callable[[Report], str | None]] = {
    DEVICE: lambda report: report.device.name,
    COUNT: _count,
    DTYPE: lambda report: report.device.dtype,
    MODEL_FLOPS: lambda report: (
        None if report.mfu.model_flops is None else f"{report.mfu.model_flops / GIGA:,.6g} GFLOP"
    ),
    TORCH: _torch_minor,
    TIMING: _timing,
}
KEYS = tuple(_KEYS)
_MEANS = {COUNT: "the number of devices (count)", MODEL_FLOPS: "the work of a step (model-flops)"}


def differing_keys(a: Report, b: Report) -> dict[str, tuple[str | None, str | None]]:
    """Keys in which two runs differ so that their step times must not be compared, with both values."""
    out: dict[str, tuple[str | None, str | None]] = {}
    for key, read in _KEYS.items():
        left, right = read(a), read(b)
        alike = key == MODEL_FLOPS and _same_work(a.mfu.model_flops, b.mfu.model_flops)
        stated = key == DTYPE and GIVEN in (a.device.peak_source, b.device.peak_source)  # such a peak has no dtype
        if left != right and not alike and not stated:
            out[key] = (left, right)
    return out


def _same_work(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=WORK_TOLERANCE)


def require_alike(reports: Sequence[Report], *, allowed: Collection[str] = (), keys: Collection[str] = KEYS) -> None:
    """Refuse runs that differ from the first one in device or work.

    Args:
        reports: the runs, baseline first if there is one.
        allowed: keys that may differ because the user said so.
        keys: the keys that matter here.

    Raises:
        DoctorError: a key differs and is not allowed to, or `allowed` names no key.
    """
    for key in allowed:
        if key not in KEYS:
            raise DoctorError(f"unknown key {key!r} for --allow-different", suggest(key, KEYS))
    for other in reports[1:]:
        for key, (left, right) in differing_keys(reports[0], other).items():
            if key in keys and key not in allowed:
                raise DoctorError(
                    f"{reports[0].run.trace} and {other.run.trace} cannot be compared: {_MEANS.get(key, key)} is"
                    f" {left or 'unknown'} and {right or 'unknown'}",
                    f"compare runs with the same {key}, or pass --allow-different {key}",
                )
