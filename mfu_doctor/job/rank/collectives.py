"""The collectives of a rank as columns: which group, which one of it, when this rank was there and when it left.

Traces before 2024, and all of gloo, do not say which process group a collective belongs to. What runs it does: each group of NCCL
has a stream of its own, and each of gloo has threads of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.collectives import Collectives as Evidence
from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.job.summary import Collectives, Floats, Group, Ints
from mfu_doctor.trace import ProcessGroup

# What really communicates in a CPU-only trace: the operator (c10d::) only issues it.
_BACK_END = re.compile(r"^(nccl|gloo|mpi|ucc):")
_THREADS_OF_GLOO = 2  # per group: torch/csrc/distributed/c10d/ProcessGroupGloo.cpp, Options::threads


class Found(Struct, frozen=True):
    """The collectives of a run, and which entry of its activity table each of them is, shape (n,)."""

    entry: Ints
    collectives: Collectives
    transfer_ns: Floats  # the least that an equal one took


def find_collectives(run: Run) -> Found:
    """All collectives of a run in order of their arrival."""
    evidence = collectives_of(run)
    if evidence is None:
        return Found(np.zeros(0, np.int64), _columns(run, None, np.zeros(0, np.int64)), np.zeros(0))
    kept = np.arange(len(evidence.entry))
    if not run.activity.is_device:
        names = [run.trace.name_of(row) for row in run.activity.row[evidence.entry].tolist()]
        kept = np.flatnonzero([_BACK_END.search(name) is not None for name in names])
    kept = kept[np.lexsort((run.activity.end[evidence.entry[kept]], run.activity.start[evidence.entry[kept]]))]
    columns = _columns(run, evidence, kept)
    return Found(evidence.entry[kept], columns, _least(columns))


def _columns(run: Run, evidence: Evidence | None, kept: Ints) -> Collectives:
    if evidence is None:
        none = np.zeros(0, np.int64)
        return Collectives(none, (), (), none, none, none, none, none, none, none, none)
    entry = evidence.entry[kept]
    group, groups = _groups(run, [evidence.group[i] for i in kept.tolist()], entry)
    start = run.activity.start[entry]
    steps, origin = run.steps, run.trace.origin_ns
    step = np.searchsorted(steps.start, start, side="right") - 1
    inside = (step >= 0) & (start < steps.end[np.maximum(step, 0)])
    return Collectives(
        group=group,
        groups=groups,
        kind=tuple(evidence.kind[i] for i in kept.tolist()),
        sequence=evidence.sequence[kept],
        order=_order(group),
        size=evidence.size[kept],
        peer=evidence.peer[kept],
        arrive=start + origin,
        end=run.activity.end[entry] + origin,
        exposed=evidence.exposed_ns[kept],
        step=np.where(inside, step, -1),
    )


def _groups(run: Run, told: Sequence[ProcessGroup | None], entry: Ints) -> tuple[Ints, tuple[Group, ...]]:
    """Number of each collective's group, and the groups by their number."""
    lanes = _lanes(run, entry)
    guessed = _of_lanes(run, lanes)
    numbers: dict[tuple[Group, int], int] = {}
    index = []
    for group, lane in zip(told, lanes.tolist(), strict=True):
        known = group if group is not None else guessed.get(lane)
        key = (Group(""), lane) if known is None else (_as_group(known), -1)
        index.append(numbers.setdefault(key, len(numbers)))
    return np.array(index, np.int64), tuple(group for group, _ in numbers)


def _as_group(group: ProcessGroup) -> Group:
    size = group.size if group.ranks is None else len(group.ranks)
    return Group(group.name, group.description, group.ranks, size)


def _lanes(run: Run, entry: Ints) -> Ints:
    """What runs each collective: its stream, or the threads that a group of gloo has; -1 for the training thread's own."""
    track = run.activity.track[entry].astype(np.int64)
    if run.activity.is_device:
        return track
    own = distinct(track[track != run.host.main_track])
    own = own[np.argsort([_number(run.trace.tracks[t].tid) for t in own.tolist()], kind="stable")]
    lane = {t: i // _THREADS_OF_GLOO for i, t in enumerate(own.tolist())}
    return np.array([lane.get(t, -1) for t in track.tolist()], np.int64)


def _number(tid: str) -> int:
    return int(tid) if tid.isascii() and tid.isdigit() else -1


def _of_lanes(run: Run, lanes: Ints) -> dict[int, ProcessGroup]:
    """The group of each pair of gloo's threads: a group starts its threads when it is made, and all of them are listed in order.

    The first group is the one of all ranks. Programs that make others often do not use it.
    """
    listed, used = run.trace.distributed.groups, sorted({lane for lane in lanes.tolist() if lane >= 0})
    if run.activity.is_device or len(listed) - len(used) not in (0, 1):
        return {}
    return dict(zip(used, listed[len(listed) - len(used) :], strict=True))


def _order(group: Ints) -> Ints:
    """How many of the same group came before each."""
    order = np.zeros(len(group), np.int64)
    for g in distinct(group).tolist():
        mine = np.flatnonzero(group == g)
        order[mine] = np.arange(len(mine))
    return order


def _least(columns: Collectives) -> Floats:
    """The least that any collective of the same group, kind and size took."""
    took = (columns.end - columns.arrive).astype(np.float64)
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(columns.kind))}
    key = np.stack((columns.group, np.array([kinds[k] for k in columns.kind], np.int64), columns.size), axis=1)
    _, which = np.unique(key, axis=0, return_inverse=True)
    least = np.full(int(which.max(initial=-1)) + 1, np.inf)
    np.minimum.at(least, which, took)
    return least[which]
