"""Softmaxes of scores of which a mask keeps few, and all work on tensors of the size of these scores, forward and backward."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.backward import maker_of, nodes_numbered
from mfu_doctor.analysis.evidence.sparse_operands import MOST_KEPT
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.facts.wasted_work import KeptScores


class MaskedScores(Struct, frozen=True):
    """Work on masked scores in all steps.

    Attributes:
        mask: entries of the activity table, shape (n,).
        kept: of each entry the share of its scores that are kept, 1 where it is no such work; shape (n,).
        rows: operators of forward that take the softmax.
        told: the scores.
    """

    mask: Mask
    kept: npt.NDArray[np.float64]
    rows: Rows
    told: tuple[KeptScores, ...]


def masked_scores_of(run: Run) -> MaskedScores | None:
    """The scores of a run of which a mask keeps few; None if there are none, or if the run does not tell."""
    told = run.facts.kept_scores if run.facts is not None else None
    told = tuple(one for one in told or () if 0 < one.kept <= MOST_KEPT and _softmaxes(run, one).size)
    if not told:
        return None
    sizes = {
        prod(one.dims): one.kept for one in sorted(told, key=lambda one: one.kept)
    }  # of alike ones the most that is kept
    by_args = np.array(
        [*(sizes.get(prod(args.largest), 1.0) for args in run.trace.args), 1.0]
    )  # the last is of -1: unknown
    op = run.launches.op
    args = np.where(op >= 0, run.trace.events.args[np.maximum(op, 0)], -1)
    kept = np.where(run.activity.kind == COMPUTE, by_args[args], 1.0)
    return MaskedScores(kept < 1, kept, np.concatenate([_softmaxes(run, one) for one in told]), told)


def _softmaxes(run: Run, one: KeptScores) -> Rows:
    made = maker_of(run, nodes_numbered(run, one.sequence)[0])
    return distinct(made[made >= 0])
