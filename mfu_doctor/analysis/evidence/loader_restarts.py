"""A training loop that begins its DataLoader anew for each batch: `next(iter(loader))`."""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.loading import loader_facts
from mfu_doctor.analysis.evidence.steady_steps import Rows, steady_of
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category

_FEWEST = 5  # batches: fewer may be those of short epochs
_MOSTLY = 0.9  # of the batches come from an iterator of their own
# Operators of an iterator that begins: it draws seeds and the order of the samples.
_BEGINS = re.compile(
    r"^aten::(empty|random_|item|_local_scalar_dense|randperm|scalar_tensor|resize_|resolve_conj|resolve_neg)$"
)
_SEVERAL = 2  # batches: a loader of one begins anew for each of course


@once
def loader_restarts(run: Run) -> Intervals | None:
    """From the last operator before each fetch of the steady steps to the first one after it; None if the loader goes on."""
    loader = loader_facts(run)
    if loader is None or loader.begun < _MOSTLY * loader.fetches or loader.fetches < _FEWEST:
        return None
    if (loader.length or 1) < _SEVERAL:
        return None
    return _around(run, steady_of(run).issued(run, run.host.fetch_rows))


def is_of_restarts(run: Run, where: Intervals) -> bool:
    """Whether most of this host time is that of a loader that begins anew."""
    around = loader_restarts(run)
    return around is not None and 2 * (around & where).total_ns > where.total_ns


def _around(run: Run, rows: Rows) -> Intervals:
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    ops = without(ops[events.track[ops] == run.host.main_track], rows_matching(run.trace, _BEGINS, ops))
    begins, ends = events.start[ops], np.maximum.accumulate(events.end[ops])
    before = np.searchsorted(begins, events.start[rows], side="left") - 1
    after = np.searchsorted(begins, events.end[rows], side="left")
    sound = (before >= 0) & (after < len(ops))
    start, end = ends[before[sound]], begins[after[sound]]
    return union(start, np.maximum(start, end))
