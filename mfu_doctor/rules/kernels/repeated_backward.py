"""Several backward passes go through one graph, although one pass from the sum of their losses would do.

What it measures
    Nodes of autograd that run again in a later backward pass of the same step (retain_graph=True), if both passes hand gradients
    to parameters, the later one adds to what the former one wrote, and no optimizer steps in between. Then only the sum is used.

Why it costs
    Backward through the shared part costs twice its forward pass, once for each loss.

How the gain is predicted
    All runs of a node after its first one are removed.
    Low: only their device time.
    Mid and high: the time to launch them on the CPU as well.
    The MFU after the fix is of the FLOPs that are left.

How to fix
    Add the losses and call backward() once. retain_graph=True is then not needed either.

When it is wrong
    The rule is wrong if the program looks at the gradients of a single loss between the passes (to log or to weigh them). Passes
    whose gradients are reset in between (gradient surgery) and gradients that are differentiated again (create_graph=True) do not
    count. The sum is rounded in another order.

References
    https://pytorch.org/docs/stable/generated/torch.autograd.backward.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.backward_passes import repeated_nodes
from mfu_doctor.analysis.evidence.needless_backward import needless_backward, whole_nodes
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@rule(
    "repeated-backward",
    "KE032",
    "several backward passes go through one graph",
    also=("retain-graph", "sum-of-losses"),
)
def repeated_backward(run: Run) -> Outcome:
    """Look for nodes that run again for another loss."""
    again = repeated_nodes(run)
    if not len(again):
        return None
    steady = steady_of(run)
    found = needless_backward(run, whole_nodes(again))
    spent = found.device_ns(run, steady)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    count = steady.per_step(len(steady.issued(run, again)))
    return Finding(
        summary=f"Backward runs {counted(count, 'node')} per step again for another loss, which takes "
        f"{steady.share(spent)} of the step",
        fix="(loss_a + loss_b).backward()  # one pass for all losses, without retain_graph=True",
        detail="the passes add their gradients, and no optimizer steps in between: only their sum is used",
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=found.removed(run),
        evidence=(
            shown("nodes that run again", count, "per step"),
            shown("their backward", seconds(spent), "s"),
        ),
        place=first_place(run, again),
        risk="rounding",
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.share),
    )
