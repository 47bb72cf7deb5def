"""The measured tensor core activity does not agree with the counted FLOPs.

What it measures
    The rule compares two values. The first is the tensor core activity that the driver measured (NVML GPM) while the GPU was
    busy. The second is the activity expected from the counted FLOPs: HFU with each dtype against its own peak, at the measured
    clock. Dtypes that do not use tensor cores are excluded. The two values are independent and should agree.

Why it costs
    If they disagree, MFU is wrong, and so are the savings that use FLOPs. If the tensor cores were busier than expected, a
    FLOP formula is missing, and MFU is too low. If they were less busy, FLOPs were counted twice or ran on other cores.

How the gain is predicted
    No gain is predicted. The finding shows how reliable MFU and HFU of this run are.

How to fix
    Record shapes. Pass the FLOPs per step (--model-flops) if custom or compiled kernels do the work.

When it is wrong
    The rule is wrong if much of the work is tile padding: it keeps tensor cores busy, but no FLOP count contains it. The
    measurement also contains other processes on the GPU. The samples cover the whole profile() block, but the FLOPs are those
    of one typical step.

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
# Dtypes that do not use tensor cores: fp32 matmuls run on CUDA cores (on tensor cores they are tf32).
_ELSEWHERE = ("fp32",)


@rule(
    "idle-tensor-cores",
    "KE010",
    "tensor core activity and counted FLOPs disagree",
    needs=(Need.SAMPLES,),
    also=("gpu-util", "sm-activity", "occupancy"),
)
def idle_tensor_cores(run: Run) -> Outcome:
    """Judge the counted FLOPs by the activity of the tensor cores."""
    samples = sampled(run)
    if samples is None or all(v is None for v in samples.device.tensor_active):
        return Skip("measuring tensor core activity needs Hopper or newer")
    measured = samples.mean(samples.device.tensor_active)
    if measured is None or not samples.is_enough:
        return Skip("too few samples under load: record more steps")
    hfu = run.mfu.report.hfu
    if hfu is None:
        return Skip(run.mfu.report.reason or "the FLOPs per step were passed by the user, not counted")
    active, expected = measured / _PERCENT, _expected(run, samples)
    if expected is None:
        return Skip("the dtype of some matmuls or its peak is unknown, so the expected activity is unknown")
    if abs(active - expected) <= APART:
        return None
    is_busier = active > expected
    return Finding(
        summary=f"Tensor cores were active {share(active, 1.0)} of the time; the counted FLOPs need {share(expected, 1.0)}",
        fix="mfu-doctor report TRACE --model-flops N  # or record shapes; Cautions lists what was not counted",
        detail="a FLOP formula is missing, so MFU is too low (or much of the work is padding)"
        if is_busier
        else "some counted FLOPs did not run on tensor cores, so MFU is too high (or the samples include pauses)",
        evidence=(
            shown("tensor cores active", active, "share"),
            shown("expected from counted FLOPs", expected, "share"),
            shown("HFU", hfu, "share"),
            *_unknown(run),
        ),
        confidence="hint",
    )


def _expected(run: Run, samples: Sampled) -> float | None:
    """Share of the time in which tensor cores must have worked for the executed FLOPs; None if a peak is unknown."""
    skipped = run.flops.by_dtype(SKIPPED)
    busy_s = 0.0
    for dtype, flops in run.flops.by_dtype(EXECUTED).items():
        peak = run.peaks.of(dtype)
        if dtype in _ELSEWHERE:
            continue
        if peak is None:
            return None
        busy_s += (flops - skipped.get(dtype, 0)) / peak
    return busy_s / run.mfu.step_s * _slower(run, samples)


def _slower(run: Run, samples: Sampled) -> float:
    """By how much cycles take longer than at the clock of the stated peak; 1 if one of the clocks is unknown."""
    mean = samples.mean(samples.device.sm_mhz)
    return run.peaks.boost_hz / (mean * MEGA) if mean and run.peaks.boost_hz else 1.0


def _unknown(run: Run) -> tuple[Evidence, ...]:
    """The work without known FLOPs, longest first."""
    return tuple(shown("FLOPs unknown", seconds(u.duration_ns), "s", u.name) for u in run.flops.unknown[:3])
