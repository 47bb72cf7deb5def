"""The FLOPs of some matmuls are unknown, so MFU is a lower bound.

What it measures
    The share of the time in matmul, convolution and attention kernels whose FLOPs could be counted from shapes.

Why it costs
    If part of the FLOPs is missing, MFU is too low and cannot be compared with other runs.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record shapes. If custom kernels do the work, pass the FLOPs per step (--model-flops).

When it is wrong
    The rule is wrong if kernels without an operator (compiled regions) are counted elsewhere.

References
    Chowdhery et al., PaLM, 2022, appendix B.
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.unknown_flops import unknown_flops_of
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# MFU is called a lower bound below this share of matmul time with counted FLOPs.
COVERED = 0.90


@rule("partial-flop-count", "TR007", "FLOPs are counted only in part", also=("flop-coverage",))
def partial_flop_count(run: Run) -> Outcome:
    """Judge how much of the matmul time has counted FLOPs."""
    coverage = run.flops.coverage
    if coverage is None:
        return Skip(run.flops.reason or "no matmul ran in the analysed steps")
    if coverage >= COVERED or run.mfu.report.method == "given":
        return None
    missing = [u for u in run.flops.unknown if u.matmul_like]
    has_shapes = Need.SHAPES.lacks(run) is None
    return Finding(
        summary=f"FLOPs are counted for {share(coverage, 1.0)} of matmul time, so MFU is "
        + ("a lower bound" if run.mfu.report.value is not None else "unknown"),
        fix="mfu-doctor report TRACE --model-flops N"
        if has_shapes
        else "torch.profiler.profile(record_shapes=True, ...)  # or mfu-doctor report TRACE --model-flops N",
        detail=run.flops.reason or (unknown_flops_of(missing) if missing else None),
        evidence=(
            shown("coverage", coverage, "share"),
            *(shown("unknown", seconds(u.duration_ns), "s", u.name) for u in missing[:3]),
        ),
        effort="setting",
        confidence="measured",
    )
