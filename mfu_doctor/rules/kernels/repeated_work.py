"""Operators compute in each step what they have computed before.

What it measures
    Operators of the forward pass whose result is the same as that of an earlier call: in the same step, or in the step that
    was looked at before. The operator, the shapes and a sample of the values are compared. Random numbers, and whatever depends
    on the batch or on parameters, differ. profile() does not compare results at present, since torch rounds some gradients
    differently while operators are looked at: only recordings that have these facts are judged.

Why it costs
    A mask, a table of positions, a normalized matrix or a filter bank that is built in each layer or in each step takes the time
    of its operators each time, and gives the same each time.

How the gain is predicted
    The device time of these operators is scaled by the share of their calls that is needless, measured in this run.
    Low: in forward only.
    Mid and high: in backward too, where a result that another call had made has gradients.

How to fix
    What never changes: compute it once before the loop and keep it (self.register_buffer). What is the same within a step:
    compute it once, and hand it to the layers that need it.

When it is wrong
    The rule is wrong if the result is the same in the two steps by chance (a learning rate of zero, one batch for all steps), or
    if it depends on something that changes more rarely than in each step.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_buffer
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import lessened
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
    "repeated-work",
    "KE041",
    "operators compute what they have computed before",
    needs=(Need.FACTS,),
    also=("constant-work", "common-subexpression", "recomputed-constant"),
)
def repeated_work(run: Run) -> Outcome:
    """Judge results that another call had made."""
    if run.facts is None or run.facts.operators is None:
        return Skip(
            "the results of operators were not compared: profile() does not, since to look at them can change the last bit"
        )
    steady = steady_of(run)
    found = wasted_results(run, steady, _again)
    if found is None:
        return None
    per_step = (run.activity.end - run.activity.start) * steady.entry_part(run)
    spent, forward = float(per_step @ found.share), float(per_step @ found.forward)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    constant = _mostly_constant(run.facts.operators.results)
    names = ", ".join(name for name, _ in found.operators.most_common(3))
    return Finding(
        summary=f"Operators compute what they have computed before ({names}), which takes {steady.share(spent)} of the step",
        fix=(
            'self.register_buffer("table", make_table(), persistent=False)  # once, before the loop'
            if constant
            else "table = make_table(x)  # once per step, and hand it to all who need it"
        ),
        detail=f"their results are the same in each {'step' if constant else 'call of a step'}",
        decides=Ends(low="backward stays as it is", high="backward runs once too"),
        change=Change(lessened(run, found.forward), lessened(run, found.share), lessened(run, found.share)),
        evidence=(
            shown("computed again", seconds(spent), "s"),
            shown("of it in forward", seconds(forward), "s"),
        ),
        place=found.place,
        symptom_of=("repeated-forward", "repeated-backward", "discarded-pass"),
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.share),
    )


def _again(one: OperatorResults) -> Parts:
    part = (one.again + one.constant) / max(one.calls, 1)
    return Parts(part, part)


def _mostly_constant(told: tuple[OperatorResults, ...]) -> bool:
    """Whether what repeats does so from step to step, rather than within a step alone."""
    same = [one for one in told if one.again + one.constant]
    return sum(one.constant > 0 for one in same) * 2 > len(same)
