"""The collectives of all ranks in one table, with one name for each process group.

Ranks are told apart by their place in the list of summaries, which is in order of their numbers. Everything that follows works
on these columns at once, so that a thousand ranks cost little more than eight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.job.summary import Group, RankSummary

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

UNKNOWN, UNREAD = -1, -2
SEND, RECEIVE = "send", "recv"
_DENSE = 1 << 20  # of several columns the product must fit into 63 bits
TO_ONE = (SEND, RECEIVE, "sendrecv")  # between two ranks; "sendrecv" is a kernel of NCCL that does not say which


class JobGroup(Struct, frozen=True):
    """A process group of the job.

    Attributes:
        name: as the trace says it, "" if it does not.
        description: "dp", "tp", ...
        members: places of the ranks that were read and have it.
        size: ranks in it, read or not; None: not known.
    """

    name: str
    description: str | None
    members: tuple[int, ...]
    size: int | None

    @property
    def complete(self) -> bool:
        """Whether every rank of it was read; False too if its size is not known."""
        return self.size is not None and len(self.members) == self.size

    @property
    def lacks(self) -> bool:
        """Whether a rank of it is known to be unread."""
        return self.size is not None and len(self.members) < self.size

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return self.description or self.name or "all ranks"


class Table(Struct, frozen=True):
    """All collectives of all ranks, rank by rank and in order of their arrival; columns of shape (n,).

    Attributes:
        first: where each rank begins, and n, shape (ranks + 1,).
        rank: place of the rank.
        group: index into `groups`.
        kind: index into `kinds`.
        sequence: number in the group, -1 if the trace has none.
        size: bytes that the rank puts in, -1 if unknown.
        peer: place of the rank at the other end, -1 if it is not known, -2 if that rank was not read.
        arrive: by the rank's own clock.
        end: likewise.
        exposed: nanoseconds of it in which nothing was computed.
        step: index into `steps`, -1 outside.
        steps: numbers of the steps of the job.
    """

    first: Ints
    rank: Ints
    group: Ints
    groups: tuple[JobGroup, ...]
    kind: Ints
    kinds: tuple[str, ...]
    sequence: Ints
    size: Ints
    peer: Ints
    arrive: Ints
    end: Ints
    exposed: Ints
    step: Ints
    steps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rank)

    def is_kind(self, *names: str) -> Mask:
        """Which rows are of one of these kinds, shape (n,)."""
        return np.isin(self.kind, [i for i, name in enumerate(self.kinds) if name in names])


def one_key(*columns: Ints | Mask) -> Ints:
    """One number for each row that is the same where all columns are: sorting it is much faster than sorting rows."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values = column.astype(np.int64)
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if high - low >= _DENSE:  # sizes in bytes: their numbers among each other do
            values = np.unique(values, return_inverse=True)[1].ravel().astype(np.int64)
            low, high = 0, int(values.max(initial=0))
        key = key * (high - low + 1) + (values - low)
    return key


def table_of(summaries: Sequence[RankSummary]) -> Table:
    """The table of these ranks, which are in order of their numbers; each has one."""
    each = [summary.collectives for summary in summaries]
    count = [len(one) for one in each]
    steps = tuple(sorted({number for summary in summaries for number in summary.steps}))
    kinds = tuple(sorted({kind for one in each for kind in one.kind}))
    groups, group = _groups(summaries)
    kind_of = {kind: i for i, kind in enumerate(kinds)}
    place = {summary.rank: i for i, summary in enumerate(summaries)}

    def column(name: str) -> Ints:
        return np.concatenate([np.empty(0, np.int64), *(np.asarray(getattr(one, name), np.int64) for one in each)])

    peer = [UNKNOWN if number < 0 else place.get(number, UNREAD) for number in column("peer").tolist()]
    return Table(
        first=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        rank=np.repeat(np.arange(len(each)), count),
        group=group,
        groups=groups,
        kind=np.array([kind_of[kind] for one in each for kind in one.kind], np.int64),
        kinds=kinds,
        sequence=column("sequence"),
        size=column("size"),
        peer=np.array(peer, np.int64),
        arrive=column("arrive"),
        end=column("end"),
        exposed=column("exposed"),
        step=_steps(summaries, steps),
        steps=steps,
    )


def _steps(summaries: Sequence[RankSummary], steps: tuple[int, ...]) -> Ints:
    """The step of each row as an index into the steps of the job."""
    parts = [np.empty(0, np.int64)]
    for summary in summaries:
        own = np.append(np.searchsorted(steps, summary.steps), UNKNOWN).astype(np.int64)
        parts.append(own[summary.collectives.step])  # -1 is the last one
    return np.concatenate(parts)


def _groups(summaries: Sequence[RankSummary]) -> tuple[tuple[JobGroup, ...], Ints]:
    """The groups of the job, and for each row which of them it is in.

    Two ranks mean the same group if its ranks and name are the same; without its ranks, if name, description and size are.
    """
    index: dict[tuple[object, ...], int] = {}
    found: list[JobGroup] = []
    rows = [np.empty(0, np.int64)]
    for place, summary in enumerate(summaries):
        own = []
        for group in summary.collectives.groups:
            key = _key(group)
            if key not in index:
                index[key] = len(found)
                found.append(JobGroup(group.name, group.description, (), _size(group, summary)))
            at = index[key]
            if place not in found[at].members:
                found[at] = replace(found[at], members=(*found[at].members, place))
            own.append(at)
        rows.append(np.array(own or [UNKNOWN], np.int64)[np.asarray(summary.collectives.group, np.int64)])
    return tuple(found), np.concatenate(rows)


def _key(group: Group) -> tuple[object, ...]:
    return (group.name, group.ranks) if group.ranks else (group.name, group.description, group.size)


def _size(group: Group, summary: RankSummary) -> int | None:
    """How many ranks a group has; one without name, size and ranks is all of them."""
    if group.ranks:
        return len(group.ranks)
    return group.size if group.size or group.name else summary.world_size
