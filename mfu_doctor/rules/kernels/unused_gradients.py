"""Backward computes gradients of parameters that no optimizer updates.

What it measures
    profile() reads the graph that each backward pass runs, and follows what becomes of the gradients: an optimizer with the
    parameter steps before they are reset, no optimizer has the parameter (a frozen network whose requires_grad was left on), or
    they are thrown away (zero_grad of another optimizer, as in a GAN). Nodes of the graph that lead to unused gradients only are
    needless. Of nodes that also hand a gradient on to an earlier layer, the products for their weights are.
    In traces of other profilers: gradients that the first backward after optimizer.step() adds to an old .grad, while others are
    newly written, and the backward after the last used one.

Why it costs
    The gradient of a weight costs as much as the forward pass of its layer, and backward must reach that layer first. A branch
    of which no gradient is used (the targets, the features of the reference) costs twice its forward pass.

How the gain is predicted
    These nodes are removed, and of other nodes the product for the weights. An operator that computes the gradients of input and
    weight together (a convolution) keeps half of its time.
    Low: only the device time.
    Mid and high: the time to launch it on the CPU as well.
    If no single remedy removes all of it (a GAN in both of its passes), only what the best one removes counts.
    The MFU after the fix is of the FLOPs that are left.

How to fix
    Set requires_grad_(False) for parameters that are not trained. If they should be trained, add them to the optimizer. If
    another optimizer trains them (a GAN), call .detach() on what their model made where this loss uses it. If the gradient must
    pass through their model, set requires_grad_(False) on it for this pass only.

When it is wrong
    The rule is wrong if the program reads these gradients itself (statistics, an update rule of its own for some parameters), or
    if a custom kernel resets them. A pass none of whose gradients an optimizer uses is not judged. Functions written in Python
    (autograd.Function) count as needed.

References
    https://pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.needless_backward import needless_backward, together
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.unused_gradients import Unused, unused_gradients_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Nearly every GAN and actor-critic computes gradients of the critic's weights for the other network. Two more lines that must not
# be forgotten are worth it where they save a tenth of the step.
_WORTH_SWITCHING = 0.1


class _Remedy(Struct, frozen=True):
    """A line to paste, and why."""

    fix: str
    detail: str


_FREEZE = _Remedy(
    "frozen.requires_grad_(False)  # {of}once, before training",
    "no optimizer has these parameters; if they should be trained, add them to the optimizer",
)
_DETACH = _Remedy(
    "score = discriminator(fake.detach())  # in the update of the discriminator; the line named here is of what made `fake`",
    "another optimizer resets these gradients before it uses its own: this backward goes through its model for nothing",
)
_PASS_THROUGH = _Remedy(
    "critic.requires_grad_(False)  # {of}for this backward pass; True again before its own",
    "another optimizer resets these gradients before it uses its own: the gradient must pass through its model, not into it",
)


@rule(
    "unused-gradients",
    "KE026",
    "gradients are computed but never used",
    also=("frozen-parameters", "requires-grad", "missing-detach", "missing-no-grad"),
)
def unused_gradients(run: Run) -> Outcome:
    """Look for work of backward that no optimizer needs."""
    steady = steady_of(run)
    by_remedy: dict[_Remedy, list[Unused]] = {}
    for group in unused_gradients_of(run):
        by_remedy.setdefault(_remedy(run, group), []).append(group)
    found = {
        remedy: needless_backward(run, together([one.nodes for one in groups])) for remedy, groups in by_remedy.items()
    }
    if not found:
        return None
    remedy = max(found, key=lambda one: found[one].device_ns(run, steady))
    spent, groups = found[remedy].device_ns(run, steady), by_remedy[remedy]
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    told = sum(group.parameters or 0 for group in groups)
    count = told or steady.per_step(len(steady.issued(run, found[remedy].handed)))
    modules = tuple(dict.fromkeys(name for group in groups for name in group.modules))
    whole = run.facts is not None and run.facts.unused_gradients is not None
    least = "" if whole else "at least "
    small = remedy is _PASS_THROUGH and spent < _WORTH_SWITCHING * steady.step_ns
    return Finding(
        summary=f"{least.capitalize()}{counted(count, 'gradient')} per step are computed but never used; the needless part of "
        f"backward takes {least}{steady.share(spent)} of the step",
        fix=remedy.fix.format(of=f"{' and '.join(modules)}: " if modules else ""),
        detail=remedy.detail
        if whole
        else f"{remedy.detail}; the trace alone need not show all of them: it saves at least this",
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=found[remedy].removed(run),
        evidence=(
            shown("unused gradients", count, "per step"),
            shown("needless backward", seconds(spent), "s"),
            *(shown("module", name) for name in modules),
        ),
        place=first_place(run, np.concatenate([group.nodes.row for group in groups])),
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found[remedy].share),
        withhold=f"it is {steady.share(spent)} of the step, and most such programs leave it: switch requires_grad for one pass "
        f"where it is more than {share(_WORTH_SWITCHING, 1.0)}"
        if small
        else None,
    )


def _remedy(run: Run, group: Unused) -> _Remedy:
    if not group.thrown:
        return _FREEZE
    found = needless_backward(run, group.nodes)
    length = run.activity.end - run.activity.start
    return _DETACH if 2 * float(length @ found.in_whole) > float(length @ found.share) else _PASS_THROUGH
