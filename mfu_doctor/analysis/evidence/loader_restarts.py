"""A training loop that begins its DataLoader anew for each batch: `next(iter(loader))`."""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.loading import loader_facts
from mfu_doctor.analysis.evidence.steady_steps import Rows, steady_of
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts import LoaderFacts
from mfu_doctor.trace import Category

_FEWEST = 5  # batches: fewer may be those of short epochs
_MOSTLY = 0.9  # of the batches come from an iterator of their own
# Operators of an iterator that begins: it draws seeds and the order of the samples.
_BEGINS = re.compile(
    r"^aten::(empty|random_|item|_local_scalar_dense|randperm|scalar_tensor|resize_|resolve_conj|resolve_neg)$"
)
_DRAWS = re.compile(r"^aten::(empty|random_)$")
_SEVERAL = 2  # batches: a loader of one begins anew for each of course


class Restarts(Struct, frozen=True):
    """Where a loader begins anew.

    Attributes:
        begins: from where each iterator draws its first seed to the end of its fetch.
        ends: from there to the first operator after it, in which its workers end, if the program does nothing else.
    """

    begins: Intervals
    ends: Intervals


def unknown_restarts(loader: LoaderFacts) -> str | None:
    """Why it is not known whether a loader with workers begins anew for each batch; None if it is."""
    if not loader.num_workers or loader.fetches < _FEWEST:
        return None
    if loader.begun is None:
        return "an earlier version recorded this, which did not count how often a loader begins: record it again"
    if loader.length is None and loader.begun >= _MOSTLY * loader.fetches:
        return "the DataLoader begins for nearly each batch, and how many batches it has is not known"
    return None


@once
def loader_restarts(run: Run) -> Restarts | None:
    """Those of the steady steps; None if the loader goes on, has no workers to start, or nothing tells."""
    loader = loader_facts(run)
    if loader is None or not loader.num_workers or (loader.length or 1) < _SEVERAL:
        return None
    if loader.begun is None or loader.begun < _MOSTLY * loader.fetches or loader.fetches < _FEWEST:
        return None
    return _around(run, steady_of(run).issued(run, run.host.fetch_rows))


def is_of_restarts(run: Run, where: Intervals) -> bool:
    """Whether most of this host time is that of a loader that begins anew."""
    restarts = loader_restarts(run)
    return restarts is not None and 2 * (restarts.begins & where).total_ns > where.total_ns


def _around(run: Run, rows: Rows) -> Restarts:
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    ops = ops[events.track[ops] == run.host.main_track]
    seeds, others = rows_matching(run.trace, _DRAWS, ops), without(ops, rows_matching(run.trace, _BEGINS, ops))
    fetched, over = events.start[rows], events.end[rows]
    # The first seed is drawn after the last operator of the program before the fetch.
    before = np.searchsorted(events.start[others], fetched) - 1
    since = np.where(before >= 0, events.start[others[np.maximum(before, 0)]], np.iinfo(np.int64).min)
    first = np.searchsorted(events.start[seeds], since, side="right")
    drawn = first < np.searchsorted(events.start[seeds], fetched)
    begin = np.where(drawn, events.start[seeds[np.minimum(first, len(seeds) - 1)]] if len(seeds) else fetched, fetched)
    after = np.searchsorted(events.start[ops], over)
    sound = after < len(ops)
    end = np.where(sound, events.start[ops[np.minimum(after, len(ops) - 1)]] if len(ops) else over, over)
    return Restarts(union(begin, over), union(over, np.maximum(over, end)))
