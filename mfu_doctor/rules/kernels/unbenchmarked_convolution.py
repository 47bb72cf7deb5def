"""cuDNN chooses convolution algorithms by a heuristic and does not measure them.

What it measures
    torch.backends.cudnn.benchmark, and the time of convolutions.

Why it costs
    For some shapes the heuristic chooses an algorithm that is 20 % or more slower than the fastest one.

How the gain is predicted
    The finding is a rough estimate: the real gain is unknown until you try it.
    Low: 98 % of the convolution time remains. So there is no finding if convolutions take less than half of the step.
    Mid: 95 % remains.
    High: 80 % remains.

How to fix
    torch.backends.cudnn.benchmark = True, if shapes do not change.

When it is wrong
    The rule is wrong if shapes change often: cuDNN then measures again for each new shape. Deterministic runs must not use the
    setting.

References
    https://pytorch.org/docs/stable/backends.html#torch.backends.cudnn.torch.backends.cudnn.benchmark
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Share of the time that remains if algorithms are measured: they gain from nothing to 20 % (cuDNN developer guide; own bounds).
_LEFT = (0.98, 0.95, 0.8)


@rule(
    "unbenchmarked-convolution",
    "KE017",
    "cudnn.benchmark is off",
    needs=(Need.DEVICE, Need.FACTS),
    also=("cudnn-benchmark",),
)
def unbenchmarked_convolution(run: Run) -> Outcome:
    """Judge torch.backends.cudnn.benchmark."""
    precision = run.facts.precision if run.facts else None
    if precision is None or precision.cudnn_benchmark is None:
        return Skip("torch.backends.cudnn.benchmark was not recorded")
    if precision.cudnn_benchmark or precision.deterministic:
        return None
    steady = steady_of(run)
    mask = run.kernels.is_kind("convolution")
    spent = device_ns(run, steady, mask)
    if spent * (1 - _LEFT[0]) < WORTH_SHARE * steady.step_ns:  # the low saving, which must be worth a finding
        return None
    return Finding(
        summary=f"Convolutions take {steady.share(spent)} of the step with algorithms chosen by a heuristic",
        fix="torch.backends.cudnn.benchmark = True",
        decides=Ends(low="it finds hardly better ones", high="the search finds much better kernels"),
        change=Change(*(scaled(run, mask, left) for left in _LEFT)),
        evidence=(shown("convolutions", seconds(spent), "s"),),
        effort="setting",
        risk="rounding",
        confidence="hint",
    )
