"""One step drawn: what each rank does when, and how the ranks come to their collectives."""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.views.once import once
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.table import Ints, Mask
from mfu_doctor.result.job import Arrival, RankStrip
from mfu_doctor.units import NS_PER_S

WAIT, COMMUNICATION = "wait", "communication"
# What a page can hold: arrivals of all ranks together, and parts of all strips together.
_MOST_ARRIVALS, _MOST_PARTS = 20_000, 60_000
_LEAST_PARTS = 24  # of a rank
# Where collectives are too short to be drawn, a piece of the step holds so many shortest parts: what has a tenth of it is seen.
_PIECE = 10
_SHOWN = 0.5  # a collective is drawn in the strip of a rank if so much of it is exposed


def drawn_step(job: Job) -> int | None:
    """The judged step that is nearest to the median one, as an index into the steps of the job."""
    judged = np.flatnonzero(job.steady)
    if not len(judged):
        return None
    took = np.nanmean(job.step_ns[:, judged], axis=0)
    return int(judged[np.abs(took - np.median(took)).argmin()])


def _windows(job: Job, step: int) -> tuple[Ints, Ints]:
    """Begin and end of the step on each rank, on the common clock; equal where a rank has not recorded it."""
    shift = np.rint(job.clocks.offset_ns).astype(np.int64)
    begin, end = np.zeros(len(job), np.int64), np.zeros(len(job), np.int64)
    for rank, summary in enumerate(job.summaries):
        number = job.table.steps[step]
        if number in summary.steps:
            at = summary.steps.index(number)
            begin[rank], end[rank] = summary.step_start[at : at + 2] + shift[rank]
    return begin, end


def arrivals(job: Job, step: int) -> tuple[Arrival, ...]:
    """The collectives of a step in order; of very many those with most waiting."""
    matched, begin = job.matched, _windows(job, step)[0]
    chosen = np.flatnonzero(job.step == step)
    by_wait = chosen[np.argsort(-job.lateness.waited[chosen], kind="stable")]
    count = np.diff(matched.start)[by_wait]
    chosen = np.sort(by_wait[np.cumsum(count) <= _MOST_ARRIVALS])
    origin = int(begin[begin > 0].min(initial=np.iinfo(np.int64).max)) if (begin > 0).any() else 0
    return tuple(_arrival(job, matched.members(at), int(job.waits.last[at]), origin) for at in chosen.tolist())


def _arrival(job: Job, rows: Ints, last: int, origin: int) -> Arrival:
    table, waits = job.table, job.waits
    return Arrival(
        group=table.groups[int(table.group[last])].label,
        kind=table.kinds[int(table.kind[last])],
        last_rank=job.ranks[int(table.rank[last])],
        arrive_s=tuple(((waits.arrive[rows] - origin) / NS_PER_S).tolist()),
        ranks=tuple(job.ranks[rank] for rank in table.rank[rows].tolist()),
        end_s=float(waits.end[rows].max() - origin) / NS_PER_S,
    )


def strips(job: Job, step: int) -> tuple[RankStrip, ...]:
    """What each rank does in a step, in its order; between two collectives the owners stand in order of their time."""
    begin, end = _windows(job, step)
    origin = int(begin[begin > 0].min()) if (begin > 0).any() else 0
    most = max(_MOST_PARTS // max(len(job), 1), _LEAST_PARTS)
    found = []
    for rank in np.flatnonzero(end > begin).tolist():
        least = float(end[rank] - begin[rank]) / most
        parts = _merged(_parts(job, rank, (int(begin[rank]), int(end[rank])), least), least)
        first = float(begin[rank] - origin)
        scaled = tuple(((first + a) / NS_PER_S, (first + b) / NS_PER_S, owner) for a, b, owner in parts)
        found.append(RankStrip(rank=job.ranks[rank], parts=scaled))
    return tuple(found)


_Part = tuple[float, float, str]


def _parts(job: Job, rank: int, window: tuple[int, int], least: float) -> list[_Part]:
    """Parts of a rank's step, from its begin: what owns the time between its collectives; waiting and the transfer in them.

    Collectives that are too short to be drawn one by one stand together, in pieces of the step.
    """
    table, waits, accounts = job.table, job.waits, job.accounts
    begin, end = window
    rows = np.arange(table.first[rank], table.first[rank + 1])
    took = waits.end[rows] - waits.arrive[rows]
    inside = (waits.end[rows] > begin) & (waits.arrive[rows] < end)
    rows = rows[inside & (table.exposed[rows] >= _SHOWN * took)]
    shown = waits.end[rows] - waits.arrive[rows] >= least / 2
    hidden = np.cumsum(np.where(shown, 0, waits.exposed[rows]))
    parts: list[_Part] = []
    at, before, told = begin, _account_at(job, rank, begin), 0
    for i in np.flatnonzero(shown | _cuts(waits.end[rows], window, _PIECE * least)).tolist():
        row = int(rows[i])
        arrive, leave = max(int(waits.arrive[row]), at), min(int(waits.end[row]), end)
        if leave <= at:
            continue
        until, account = (arrive, accounts.at_arrival[row]) if shown[i] else (leave, accounts.at_end[row])
        parts += _between(job, (at - begin, until - begin), account - before, int(hidden[i]) - told)
        if shown[i]:
            there = min(max(int(waits.arrive[row] + waits.wait[row]), arrive), leave)
            parts += [(arrive - begin, there - begin, WAIT), (there - begin, leave - begin, COMMUNICATION)]
        at, before, told = leave, accounts.at_end[row], int(hidden[i])
    rest = _account_at(job, rank, end) - before
    return [*parts, *_between(job, (at - begin, end - begin), rest, int(hidden[-1]) - told if len(hidden) else 0)]


def _cuts(ends: Ints, window: tuple[int, int], piece: float) -> Mask:
    """Which collectives end a piece of the step: of those inside of it the first that ends in each such length."""
    out = np.zeros(len(ends), np.bool_)
    last = np.maximum.accumulate(ends) if len(ends) else ends
    at = np.searchsorted(last, np.arange(window[0] + piece, window[1], piece))
    at = at[at < len(ends)]
    out[at[ends[at] <= window[1]]] = True
    return out


def _account_at(job: Job, rank: int, time: int) -> Ints:
    """The account at the edge of a step."""
    summary = job.summaries[rank]
    shift = int(np.rint(job.clocks.offset_ns[rank]))
    edge = int(np.searchsorted(summary.step_start, time - shift))
    total: Ints = job.accounts.step[rank][:edge].sum(axis=0) + job.accounts.before_steps[rank]
    return total


def _between(job: Job, window: tuple[int, int], spent: Ints, waited: int) -> list[_Part]:
    """The owners of a part of a rank's time, those with most first, in the time that they have together.

    Of communication so much was waiting.
    """
    begin, end = window
    owned: dict[str, int] = {}
    for bucket, ns in zip(_buckets(job), np.maximum(spent, 0).tolist(), strict=True):
        owned[bucket] = owned.get(bucket, 0) + ns
    total = sum(owned.values())
    if end <= begin or not total:
        return []
    owned[WAIT] = min(waited, owned.get(COMMUNICATION, 0))
    owned[COMMUNICATION] = owned.get(COMMUNICATION, 0) - owned[WAIT]
    parts: list[_Part] = []
    at, scale = float(begin), (end - begin) / total
    for owner, ns in sorted(owned.items(), key=lambda item: -item[1]):
        parts.append((at, at + ns * scale, owner))
        at += ns * scale
    return parts


@once
def _buckets(job: Job) -> tuple[str, ...]:
    """The bucket of each owner of the accounts."""
    return tuple(bucket_of(owner) for owner in job.accounts.owners)


def bucket_of(owner: str) -> str:
    """The owner of a breakdown that an owner of an account is a part of."""
    return owner.partition(":")[0]


def _merged(parts: list[_Part], least: float) -> list[_Part]:
    """Neighbours of one owner as one, and parts that are too short to see as a piece of the longer neighbour."""
    out: list[_Part] = []
    for begin, end, owner in parts:
        if end <= begin:
            continue
        if out and (out[-1][2] == owner or end - begin < least):
            out[-1] = (out[-1][0], end, out[-1][2])
        elif out and out[-1][1] - out[-1][0] < least:
            out[-1] = (out[-1][0], end, owner)
        else:
            out.append((begin, end, owner))
    return out
