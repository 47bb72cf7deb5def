"""The activity of the tensor cores that the device measured does not fit the FLOPs that were counted.

What it measures
    The mean share of the time in which the tensor cores worked (GPM, busy samples) against the share that the counted FLOPs ask
    for: HFU, with each format against its own peak, without formats that do not run on tensor cores, at the clock that the
    device had. Two independent ways to the same number.

Why it costs
    MFU and the savings that rest on FLOPs are wrong by as much. Where the tensor cores were busier than the count, a FLOP
    formula is missing and MFU is too low; where they were idler, FLOPs are counted twice or ran elsewhere.

How the gain is predicted
    There is no gain: it says what MFU and HFU of this run are worth.

How to fix
    Record shapes; give the FLOPs of a step (--model-flops) where custom or compiled kernels do the work.

When it is wrong
    Tiles that overhang a matrix keep tensor cores busy with padding, which no FLOP count has. Other processes on the device are
    measured too. The samples cover all of the recorded block, the count one typical step.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlGpmEnums.html (NVML_GPM_METRIC_ANY_TENSOR_UTIL)
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_samples import Sampled, sampled
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED, SKIPPED
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import MEGA, seconds

APART = 0.05  # of the time: the two measurements agree to within five points
_PERCENT = 100.0
# Formats without tensor cores of their own: fp32 products run on the ordinary cores (with tensor cores they are tf32).
_ELSEWHERE = ("fp32",)


@rule(
    "idle-tensor-cores",
    "KE010",
    "tensor activity and counted FLOPs disagree",
    needs=(Need.SAMPLES,),
    also=("gpu-util", "sm-activity", "occupancy"),
)
def idle_tensor_cores(run: Run) -> Outcome:
    """Judge the counted FLOPs by the activity of the tensor cores."""
    samples = sampled(run)
    if samples is None or all(v is None for v in samples.device.tensor_active):
        return Skip("tensor activity needs Hopper or newer")
    measured = samples.mean(samples.device.tensor_active)
    if measured is None or not samples.is_enough:
        return Skip("too few samples of the busy device: record more steps")
    hfu = run.mfu.report.hfu
    if hfu is None:
        return Skip(run.mfu.report.reason or "the FLOPs of the step were given and not counted")
    active, expected = measured / _PERCENT, _expected(run, samples)
    if expected is None:
        return Skip("the format of some products or its peak is unknown: FLOPs do not tell how busy tensor cores were")
    if abs(active - expected) <= APART:
        return None
    is_busier = active > expected
    return Finding(
        summary=f"Tensor cores were active {share(active, 1.0)} of the time, the counted FLOPs ask for {share(expected, 1.0)}",
        fix="mfu-doctor report TRACE --model-flops N  # or record shapes; see Cautions for what was not counted",
        detail="a FLOP formula is missing, so MFU is too low (or much of the work is padding)"
        if is_busier
        else "FLOPs are counted that did not run on tensor cores, so MFU is too high (or the samples cover pauses)",
        evidence=(
            shown("tensor cores active", active, "share"),
            shown("by counted FLOPs", expected, "share"),
            shown("HFU", hfu, "share"),
            *_unknown(run),
        ),
        confidence="hint",
    )


def _expected(run: Run, samples: Sampled) -> float | None:
    """Share of the time in which tensor cores must have worked for the executed FLOPs; None where a peak is unknown."""
    step = run.mfu.step
    skipped = run.flops.by_dtype(step, SKIPPED)
    busy_s = 0.0
    for dtype, flops in run.flops.by_dtype(step, EXECUTED).items():
        peak = run.peaks.of(dtype)
        if dtype in _ELSEWHERE:
            continue
        if peak is None:
            return None
        busy_s += (flops - skipped.get(dtype, 0)) / peak
    return busy_s / run.mfu.step_s * _slower(run, samples)


def _slower(run: Run, samples: Sampled) -> float:
    """By how much cycles take longer than at the clock of the stated peak; 1 where either clock is unknown."""
    mean = samples.mean(samples.device.sm_mhz)
    return run.peaks.boost_hz / (mean * MEGA) if mean and run.peaks.boost_hz else 1.0


def _unknown(run: Run) -> tuple[Evidence, ...]:
    """The work without known FLOPs, longest first."""
    return tuple(shown("FLOPs unknown", seconds(u.duration_ns), "s", u.name) for u in run.flops.unknown[:3])
