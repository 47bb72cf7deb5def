"""What a classification loss computes for targets that it ignores: from the product that makes its logits to its gradient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, nodes_numbered
from mfu_doctor.analysis.evidence.steady_steps import Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.facts.wasted_work import IgnoredTargets


class IgnoredRows(Struct, frozen=True):
    """The losses of a run that ignore targets.

    Attributes:
        share: ignored part of what each entry of the activity table computes, shape (n,).
        least: the same, of the pass that ignores the fewest.
        rows: operators of forward that make the logits and the loss, all steps.
        told: the losses.
    """

    share: npt.NDArray[np.float64]
    least: npt.NDArray[np.float64]
    rows: Rows
    told: tuple[IgnoredTargets, ...]


def ignored_rows_of(run: Run) -> IgnoredRows | None:
    """What is computed for ignored targets; None if there are none, or if the run does not tell."""
    told = run.facts.ignored_targets if run.facts is not None else None
    if not told:
        return None
    share, least = np.zeros((2, len(run.activity.row)))
    makers = []
    for loss in told:
        nodes, _ = nodes_numbered(run, loss.sequence)
        made = maker_of(run, nodes)
        made = distinct(made[made >= 0])
        mine = work_in(run, spans_of_rows(run, np.concatenate((nodes, made))))
        share[mine] = np.maximum(share[mine], loss.ignored / loss.targets)
        least[mine] = np.maximum(least[mine], loss.least)
        makers.append(made)
    return IgnoredRows(share, least, np.concatenate(makers), told)
