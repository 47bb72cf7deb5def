"""A module is called several times in a step with the same tensors, or a gradient is taken again: each computes the same.

What it measures
    Calls of a module with the very tensors of a call before it, if nothing has written them and no optimizer step came in
    between, nor a backward pass but one that is itself differentiated (create_graph=True); and what is computed in the same way
    from their output alone, such as a gradient of it. Gradients, too, that are taken again (torch.autograd.grad with
    create_graph=True): on the CPU, where they gave the same numbers and went through the same nodes. profile() watches the calls
    in the step that it records with shapes, and compares what they give: on the CPU the values, elsewhere the graph of its
    gradient. A call that gives something else is another one, and so is one that draws random numbers (dropout, sampling) or is
    in another mode (eval).

Why it costs
    A second forward pass for a metric or a log line costs as much as the first one, and if a loss uses both, backward runs twice.
    Derivatives that are written as functions of functions call the model, and differentiate it, for each term anew.

How the gain is predicted
    The operators of all calls but one are removed, and the backward of calls beside that of the one that stays: what a node of
    one call does in a backward pass is removed where another call's node does the same in that pass.
    Low: only their device time.
    Mid and high: the time to launch them on the CPU as well.
    The MFU after the fix is of the FLOPs that are left.

How to fix
    Call the module once and use its output for both, with .detach() for what is only measured. Take each gradient once.

When it is wrong
    The rule is wrong if the module does something else than compute its output (it counts its calls, batch norm updates its
    running statistics twice on purpose).

References
    https://pytorch.org/docs/stable/notes/autograd.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.repeated_calls import repeated_calls_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

_MEASURED = "with out.detach() for what is only measured"
_DERIVED = "and torch.autograd.grad(out.sum(), x, create_graph=True) once, for all that is derived from it"


@rule(
    "repeated-forward",
    "KE033",
    "a module computes the same output again",
    also=("double-forward", "called-twice"),
)
def repeated_forward(run: Run) -> Outcome:
    """Look for calls whose output the step has computed before."""
    found = repeated_calls_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = found.work.device_ns(run, steady)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    names = " and ".join(found.modules)
    what = f"{names} is called again with the same tensors" if names else "A gradient that the step has is taken again"
    once = f"out = model(x)  # {names}: once, {_DERIVED if found.derived else _MEASURED}"
    return Finding(
        summary=f"{what}, which takes {steady.share(spent)} of the step",
        fix=once
        if names
        else "torch.autograd.grad(out.sum(), x, create_graph=True)  # once, for all that is derived from it",
        detail="nothing was written and nothing was updated in between"
        + (", and each call gave the same" * found.compared),
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=found.work.removed(run),
        evidence=(
            shown("module", names or "none: only gradients"),
            shown("repeated calls", seconds(spent), "s"),
        ),
        place=first_place(run, found.rows),
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.work.share),
    )
