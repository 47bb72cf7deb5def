"""The gradient of an embedding is written for every row of its table, though a batch touches few of them.

What it measures
    The device work of embedding_dense_backward.

Why it costs
    A table of a million rows gets a gradient of a million rows, zeros included, and the optimizer then updates all of
    them.

How the gain is predicted
    Three passes over the rows of the batch at full bandwidth (high), 30 % (mid) or 60 % (low) of the present time. What
    the optimizer saves is not in it.

How to fix
    nn.Embedding(sparse=True) with SparseAdam or SGD.

When it is wrong
    SparseAdam treats momentum differently, which can change convergence. Small tables gain nothing.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Embedding.html
"""

from __future__ import annotations

import re
from math import prod

import numpy as np

from mfu_doctor.analysis.edits import Change, ScaleDevice
from mfu_doctor.analysis.op_args import element_bytes, shape
from mfu_doctor.analysis.ownership import calls_of, device_ns, work_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.phrasing import share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import NS_PER_S, seconds

_DENSE = re.compile(r"^aten::embedding_dense_backward$")
SEEN_SHARE = 0.01
_LEFT = (0.6, 0.3)  # what a sparse gradient leaves, where shapes or bandwidth are unknown
_PASSES = 3  # read the incoming gradient, write rows and their indices


@rule("dense-embedding-grad", "KE013", "an embedding's gradient is written for every row")
def dense_embedding_grad(run: Run) -> Outcome:
    """Judge dense gradients of embeddings."""
    steady = steady_of(run)
    mask = work_of(run, _DENSE)
    spent = device_ns(run, steady, mask)
    if spent < SEEN_SHARE * steady.step_ns:
        return None
    calls = calls_of(run, _DENSE)
    rows = np.unique(run.activity.row[mask])
    least = _floor_share(run, calls, spent * steady.count / max(len(steady.issued(run, calls)), 1))

    def at(left: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), max(left, least))),)

    return Finding(
        summary=f"Dense gradients of embeddings take {share(spent, steady.step_ns)} of the step",
        fix="nn.Embedding(..., sparse=True)  # with torch.optim.SparseAdam for its weight",
        detail="only the rows of this batch's tokens have a gradient; the optimizer then also skips the others",
        change=Change(at(_LEFT[0]), at(_LEFT[1]), at(0.0)),
        evidence=(shown("device time", seconds(spent), "s"),),
        place=run.places(calls[:1])[0],
        risk="convergence",
        effort="refactor",
        confidence="hint",
    )


def _floor_share(run: Run, calls: np.ndarray[tuple[int], np.dtype[np.int64]], call_ns: float) -> float:
    """Share of a call's time that its own rows need at full bandwidth; 0 where unknown."""
    args = run.trace.args_of(int(calls[0])) if len(calls) else None
    if args is None or args.dims is None or not run.peaks.bandwidth or (dims := shape(args, 0)) is None:
        return 0.0
    least = _PASSES * prod(dims) * (element_bytes(args, 0) or 4.0) / run.peaks.bandwidth * NS_PER_S
    return min(least / max(call_ns, 1.0), 1.0)
