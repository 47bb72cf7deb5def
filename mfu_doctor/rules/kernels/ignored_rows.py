"""Logits are computed for targets that the loss ignores.

What it measures
    The share of targets equal to the ignore_index of cross_entropy (labels of -100 for padding, prompts and tokens that are not
    masked), or at which the loss of each target is multiplied by zero (a mask), counted by profile() in steps beside the recorded
    ones, and the time from the product that makes the logits to its gradients.

Why it costs
    cross_entropy skips ignored targets only at its end: their logits, softmax and gradients are computed like all others. With a
    large vocabulary that is most of a step.

How the gain is predicted
    All operators from the last product to the loss, and their backward, treat each row on its own: their device time is scaled
    to the rows that count.
    Low: as many rows as the pass that ignores the fewest, and three quarters of the saving.
    Mid: in proportion to the rows that are ignored on average. On a CPU, logits of more than 32 MiB are in memory that is mapped
    anew each time; if fewer rows are not, what is left of the work without products has the measured bandwidth.
    High: what does no products (softmax, fills, copies) costs nothing any more, as if the smaller tensors stayed in the caches.

How to fix
    Select the rows that count before the last layer: keep = labels != -100; loss = F.cross_entropy(head(hidden[keep]),
    labels[keep]). The loss is the same. For a causal model shift first: hidden[:, :-1], labels[:, 1:].

When it is wrong
    The rule promises too much if the logits of all rows are used elsewhere (accuracy over all positions). The number of rows
    then changes in each step: CUDA graphs and torch.compile with static shapes need a fixed upper bound.

References
    https://pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.attribution import first_place, lessened
from mfu_doctor.analysis.evidence.ignored_targets import IgnoredRows, ignored_rows_of
from mfu_doctor.analysis.evidence.mapped_memory import saved_with_smaller_tensors
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LOW = 0.75  # part of the proportional saving that is reached at least: smaller products are less efficient


def _best(run: Run, found: IgnoredRows) -> npt.NDArray[np.float64]:
    """What is saved at best of each entry, shape (n,)."""
    moves_only = (found.share > 0) & (run.flops.per_entry() == 0)
    return np.where(moves_only, 1.0, found.share)


@rule(
    "ignored-rows",
    "KE037",
    "logits are computed for targets that the loss ignores",
    needs=(Need.FACTS,),
    also=("ignore-index", "ignored-labels", "masked-labels"),
)
def ignored_rows(run: Run) -> Outcome:
    """Judge what is computed for targets that are ignored."""
    if run.facts is None or run.facts.ignored_targets is None:
        return Skip(
            "no targets of a cross_entropy were counted: profile() counts them in the steps around the one with shapes"
        )
    found = ignored_rows_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    per_step = (run.activity.end - run.activity.start) * steady.entry_part(run)
    spent = float(per_step @ found.share)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    targets, ignored = (sum(column) for column in zip(*((x.targets, x.ignored) for x in found.told), strict=True))
    masked = any(x.masked for x in found.told)
    each = sum(x.targets / x.losses for x in found.told)
    return Finding(
        summary=f"The loss ignores {share(ignored, targets)} of its {number(each)} targets, but computing their logits and "
        f"gradients takes {steady.share(spent)} of the step",
        fix=f"keep = {'mask.bool()' if masked else 'labels != -100'}; loss = F.cross_entropy(head(hidden[keep]), labels[keep])",
        detail="select the rows that count before the last layer: the loss stays the same",
        decides=Ends(low="fewer rows are less efficient", high="what does no products costs nothing any more"),
        change=Change(
            lessened(run, _LOW * found.least),
            lessened(run, saved_with_smaller_tensors(run, found.share)),
            lessened(run, _best(run, found)),
        ),
        evidence=(
            shown("ignored targets", ignored / targets, "share"),
            shown("targets", each, "count"),
            shown("computed for ignored targets", seconds(spent), "s"),
        ),
        place=first_place(run, found.rows),
        effort="line",
        confidence="modelled",
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.share),
    )
