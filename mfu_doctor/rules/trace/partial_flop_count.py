"""The FLOPs of some matrix products are unknown, so MFU is a lower bound.

What it measures
    The share of the time in matmul, convolution and attention kernels whose FLOPs could be counted from shapes.

Why it costs
    A ratio with half of its numerator missing misleads whoever compares it.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Record shapes. Give the FLOPs of a step (--model-flops) where custom kernels do the work.

When it is wrong
    Kernels without an operator (compiled regions) may be counted elsewhere.

References
    Chowdhery et al., PaLM, 2022, appendix B.
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# MFU is called a lower bound below this share of matmul time with counted FLOPs.
COVERED = 0.90


@rule("partial-flop-count", "TR007", "FLOPs are counted only in part", also=("flop-coverage",))
def partial_flop_count(run: Run) -> Outcome:
    """Judge how much of the matmul time has counted FLOPs."""
    coverage = run.flops.coverage
    if coverage is None:
        return Skip(run.flops.reason or "no matrix multiplication ran in the steady steps")
    if coverage >= COVERED or run.options.model_flops is not None:
        return None
    missing = [u for u in run.flops.unknown if u.matmul_like]
    return Finding(
        summary=f"FLOPs are counted for {share(coverage, 1.0)} of matmul time, so MFU is "
        + ("a lower bound" if coverage else "unknown"),
        fix="torch.profiler.profile(record_shapes=True, ...)  # or mfu-doctor report TRACE --model-flops N",
        detail=run.flops.reason or ("unknown: " + ", ".join(u.name for u in missing[:3]) if missing else None),
        evidence=(
            shown("coverage", coverage, "share"),
            *(shown("unknown", seconds(u.duration_ns), "s", u.name) for u in missing[:3]),
        ),
        effort="setting",
        confidence="measured",
    )
