"""Parameters are gone through operator by operator: an update or an average written by hand, or copies of all of them.

What it measures
    Operators outside forward, backward and the optimizers of torch whose tensors all have the shape of one parameter (as the
    gradients of the step tell): an exponential average of the weights, a home-made optimizer, deepcopy(model.state_dict()).

Why it costs
    Each operator reads and writes all of the parameters again, and most make a new tensor, whose memory the system hands out
    anew. In one pass each tensor is read once.

How the gain is predicted
    The lower bound is the traffic of one pass over these parameters / bandwidth: 3 tensors are read or written, or 7 where the
    update divides by a root (Adam).
    Low: twice the lower bound stays, and the Python code between the operators.
    Mid: the lower bound at 70 % of the bandwidth.
    High: the lower bound.

How to fix
    For an average: torch._foreach_lerp_(averages, parameters, 1 - decay) under torch.no_grad(), without state_dict() and
    deepcopy. For an optimizer: the class of torch.optim with fused=True.

When it is wrong
    The rule is wrong if tensors of the shape of a parameter are something else, or if copies are needed (a snapshot to go back
    to, a target network that is replaced): make them more rarely then.

References
    https://pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import between_operators, device_ns, first_place, scaled, without_host
from mfu_doctor.analysis.evidence.parameter_sweeps import Sweeps, parameter_sweeps_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# Share of the bandwidth that one pass reaches: low, mid, high.
_REACHED = (0.5, 0.7, 1.0)
_AVERAGE = "torch._foreach_lerp_(averages, list(model.parameters()), 1 - decay)  # under no_grad(); no deepcopy"
_UPDATE = (
    "torch.optim.{name}(model.parameters(), ..., fused=True)  # instead of an update by hand, if it computes the same"
)


@rule(
    "parameter-sweeps",
    "KE043",
    "parameters are gone through again and again",
    needs=(Need.SHAPES,),
    also=("ema", "weight-averaging", "manual-optimizer", "hand-written-optimizer"),
)
def parameter_sweeps(run: Run) -> Outcome:
    """Judge what goes through parameters by hand."""
    steady = steady_of(run)
    found = parameter_sweeps_of(run, steady)
    if found is None:
        return None
    if not run.peaks.bandwidth:
        return Skip("the memory bandwidth is not known: profile() measures it on a CPU")
    spent = device_ns(run, steady, found.entries)
    floor = found.least_bytes / run.peaks.bandwidth * NS_PER_S
    if spent - floor < WORTH_SHARE * steady.step_ns:
        return None
    by_hand = not len(run.optimizer_steps.marks)
    fix = _UPDATE.format(name="AdamW" if found.adaptive else "SGD") if by_hand else _AVERAGE
    return Finding(
        summary=f"{counted(found.calls, 'operator')} per step go through parameters outside the optimizer, which takes "
        f"{steady.share(spent)} of the step",
        fix=fix,
        detail=f"one pass over these tensors takes {time_of(floor)} at full memory bandwidth",
        decides=Ends(low="it takes twice as long", high="one pass runs at full memory bandwidth"),
        change=Change(*(_left(run, found, min(floor / reached / spent, 1.0)) for reached in _REACHED)),
        evidence=(
            shown("operators on parameters", found.calls, "per step"),
            shown("device time", seconds(spent), "s"),
            shown("minimum memory traffic", found.least_bytes, "bytes"),
        ),
        place=first_place(run, found.rows),
        risk="rounding",
    )


def _left(run: Run, found: Sweeps, part: float) -> tuple[Edit, ...]:
    return (*scaled(run, found.entries, part), *without_host(run, between_operators(run, found.rows)))
