"""cuDNN picks its convolution algorithms by a heuristic, not by measuring them.

What it measures
    torch.backends.cudnn.benchmark and the time in convolutions.

Why it costs
    For some shapes the heuristic misses the fastest algorithm by a fifth or more.

How the gain is predicted
    Convolutions take 98, 95 or 80 % of their time: nobody can tell before trying, so it is a hint.

How to fix
    torch.backends.cudnn.benchmark = True, where shapes do not change.

When it is wrong
    Changing shapes make cuDNN measure again and again. Deterministic runs must not use it.

References
    https://pytorch.org/docs/stable/backends.html#torch.backends.cudnn.torch.backends.cudnn.benchmark
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# What choosing by measurement instead of by heuristic gives: nothing to a fifth (cuDNN developer guide; own bounds).
_LEFT = (0.98, 0.95, 0.8)


@rule(
    "unbenchmarked-convolution",
    "KE017",
    "convolution algorithms are guessed",
    needs=(Need.DEVICE, Need.FACTS),
    also=("cudnn-benchmark",),
)
def unbenchmarked_convolution(run: Run) -> Outcome:
    """Judge torch.backends.cudnn.benchmark."""
    precision = run.facts.precision if run.facts else None
    if precision is None or precision.cudnn_benchmark is None:
        return Skip("the setting was not captured")
    if precision.cudnn_benchmark or precision.deterministic:
        return None
    steady = steady_of(run)
    mask = run.kernels.is_kind("convolution")
    spent = device_ns(run, steady, mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    return Finding(
        summary=f"Convolutions take {steady.share(spent)} of the step with algorithms chosen by a heuristic",
        fix="torch.backends.cudnn.benchmark = True",
        change=Change(*(scaled(run, mask, left) for left in _LEFT)),
        evidence=(shown("convolutions", seconds(spent), "s"),),
        effort="setting",
        risk="rounding",
        confidence="hint",
    )
