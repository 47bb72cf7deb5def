"""What could be different in a job: another replay of some ranks, less of their own work, other transfers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce as folded

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.job.across.table import Floats
from mfu_doctor.job.summary import Reach


class JobEdit(Struct, frozen=True):
    """What is different in a replay.

    Attributes:
        reach: ranks whose replay is another one.
        saved: nanoseconds less that a rank needs for itself right before each row of the table, shape (n,); None: none.
        transfer: nanoseconds that each row takes once all are there, shape (n,); None: as recorded.
        shorter: share of the step that a closed form takes off what is left, for what no replay can show.
    """

    reach: Mapping[int, Reach] = field(default_factory=dict)
    saved: Floats | None = None
    transfer: Floats | None = None
    shorter: float = 0.0


class JobChange(Struct, frozen=True):
    """A change at the low, middle and high end of its saving."""

    low: JobEdit
    mid: JobEdit
    high: JobEdit


def together(edits: Collection[JobEdit]) -> JobEdit:
    """Several edits as one. Where two are about the same time, the larger one counts: the same time is not saved twice."""
    return folded(_both, edits) if edits else JobEdit()


def _both(one: JobEdit, other: JobEdit) -> JobEdit:
    reach = dict(one.reach)
    for rank, theirs in other.reach.items():
        reach[rank] = _sooner(reach[rank], theirs) if rank in reach else theirs
    return JobEdit(
        reach, _most(one.saved, other.saved), _least(one.transfer, other.transfer), _less(one.shorter, other.shorter)
    )


def _most(one: Floats | None, other: Floats | None) -> Floats | None:
    return other if one is None else one if other is None else np.maximum(one, other)


def _least(one: Floats | None, other: Floats | None) -> Floats | None:
    return other if one is None else one if other is None else np.minimum(one, other)


def _less(one: float, other: float) -> float:
    return 1.0 - (1.0 - one) * (1.0 - other)


def _sooner(one: Reach, other: Reach) -> Reach:
    """Both replays of a rank as one: the shorter of each delay; where they wait for different things, the one that is sooner."""
    if not (np.array_equal(one.pointer, other.pointer) and np.array_equal(one.source, other.source)):
        return one if one.since_ns.sum() <= other.since_ns.sum() else other
    since, delay = np.minimum(one.since_ns, other.since_ns), np.minimum(one.delay_ns, other.delay_ns)
    return replace(one, since_ns=since, delay_ns=delay)
