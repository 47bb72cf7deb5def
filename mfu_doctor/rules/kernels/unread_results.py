"""Operators compute results that nothing reads.

What it measures
    Operators of the forward pass whose result no other operator reads, or only such ones: an output of a model that no loss uses,
    a head that was kept for another task. A product with zero reads nothing: a loss with a weight of 0. A result that leaves the
    graph (detach, item) or is still there when the step ends counts as read. profile() does not follow results at present, since
    torch rounds some gradients differently while operators are looked at: only recordings that have these facts are judged.

Why it costs
    They take their time in each step, and change neither a parameter nor anything that the program sees.

How the gain is predicted
    The device time of these operators is scaled by the share of their calls that nothing reads, and so is that of their backward,
    which runs where their result is multiplied by zero.
    Low: only their device time.
    Mid and high: the Python code between such operators goes too.

How to fix
    Leave them out while training: a flag of the model (if self.deep_supervision: ...), a call of the part that is needed, or
    if weight > 0: loss = loss + weight * extra(x).

When it is wrong
    The rule is wrong if the program reads the values without an operator of torch (tolist, printing a tensor).

References
    https://pytorch.org/docs/stable/notes/autograd.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import lessened, without_host
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.wasted_results import Parts, wasted_results
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import OperatorResults
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "unread-results",
    "KE042",
    "results are computed that nothing reads",
    needs=(Need.FACTS,),
    also=("unused-outputs", "dead-code", "unused-head"),
)
def unread_results(run: Run) -> Outcome:
    """Judge results of forward that end nowhere."""
    if run.facts is None or run.facts.operators is None:
        return Skip(
            "the results of operators were not followed: profile() does not, since to look at them can change the last bit"
        )
    steady = steady_of(run)
    found = wasted_results(run, steady, _unread)
    if found is None:
        return None
    spent = float(((run.activity.end - run.activity.start) * steady.entry_part(run)) @ found.share)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    device = lessened(run, found.share)
    everything = (*device, *without_host(run, found.between))
    is_zeroed = float(found.share.sum()) > float(
        found.forward.sum()
    )  # it has a backward pass: a product with zero reads it
    names = ", ".join(name for name, _ in found.operators.most_common(3))
    return Finding(
        summary=f"Nothing reads the results of some operators ({names}), which take {steady.share(spent)} of the step",
        fix="if weight > 0:\n    loss = loss + weight * extra(x)"
        if is_zeroed
        else "if self.extra_outputs:  # False while training\n    outputs = self.extra_head(x)",
        detail="they are multiplied by zero" if is_zeroed else "no loss, no metric and no other operator uses them",
        confidence="measured",
        decides=Ends(low="only the operators go", high="the Python code between them goes too"),
        change=Change(device, everything, everything),
        evidence=(shown("computed for nothing", seconds(spent), "s"),),
        place=found.place,
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.share),
    )


def _unread(one: OperatorResults) -> Parts:
    with_backward = one.calls - one.unread + one.zeroed
    return Parts(one.unread / max(one.calls, 1), one.zeroed / max(with_backward, 1))
