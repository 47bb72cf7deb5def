"""In which order the points of a job can be worked off, many at once: those of one level do not depend on each other.

A rank comes to its collectives one after the other, so a collective is a level above all earlier ones of its members, in order of
their last arrivals. Points between collectives come a step after their sources, on the way to the next level. A rank
that left before the last one came (it sent without waiting) goes on alone, and the others still wait for what it sent.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.points import Points, Sources, sources_of
from mfu_doctor.job.across.table import UNKNOWN, Ints, Mask, Table
from mfu_doctor.job.across.waits import Waits

_STEPS = 1 << 20  # points between two levels of collectives, at most


class Meetings(Struct, frozen=True):
    """How rows of the table meet in the replay.

    Attributes:
        item: the collective of each row, or a number of its own if it waits for nobody, shape (n,).
        level: of each row, from 1, shape (n,).
        alone: rows that wait for nobody, shape (n,).
        ahead: rows that go on alone, and that others still wait for.
        awaited_by: the collective that waits for each of `ahead`.
    """

    item: Ints
    level: Ints
    alone: Mask
    ahead: Ints
    awaited_by: Ints


def meetings_of(table: Table, matched: Matched, waits: Waits, inside: Mask) -> Meetings:
    """How rows meet.

    Args:
        table: the collectives.
        matched: which are the same.
        waits: when their members came and left.
        inside: which rows are replayed; a collective with others too is as recorded on each rank.
    """
    together = np.zeros(len(matched), np.bool_)
    if len(matched):
        together = np.logical_and.reduceat(inside[matched.row], matched.start[:-1])
    in_one = together[matched.of_row]
    leaves_early = waits.ahead[matched.row]
    meets = in_one & ~leaves_early
    alone = np.ones(len(table), np.bool_)
    alone[matched.row[meets]] = False
    item = len(matched) + np.arange(len(table))
    item[matched.row[meets]] = matched.of_row[meets]
    level = _levels(table, matched, waits, together, alone)
    ahead = in_one & leaves_early
    return Meetings(item, level[item], alone, matched.row[ahead], matched.of_row[ahead])


def _levels(table: Table, matched: Matched, waits: Waits, together: Mask, alone: Mask) -> Ints:
    """The level of each collective, then of each row as one that waits for nobody, shape (c + n,)."""
    rank, count = table.rank.tolist(), len(matched)
    last = np.where(together, waits.arrive[waits.last], np.iinfo(np.int64).max)
    singles = np.where(alone, waits.arrive, np.iinfo(np.int64).max)
    when = np.concatenate([last, singles])
    level, reached = [0] * len(when), [0] * (max(rank, default=-1) + 1)
    is_alone, rows, start = alone.tolist(), matched.row.tolist(), matched.start.tolist()
    for item in np.argsort(when, kind="stable")[: int(together.sum() + alone.sum())].tolist():
        if item >= count:
            at = rank[item - count]
            level[item] = reached[at] = reached[at] + 1
            continue
        members = rows[start[item] : start[item + 1]]
        here = 1 + max([level[count + row] if is_alone[row] else reached[rank[row]] for row in members])
        level[item] = here
        for row in members:
            if not is_alone[row]:
                reached[rank[row]] = here
    return np.array(level, np.int64)


class Together(Struct, frozen=True):
    """Of a level of collectives: which one each point is in, the points that they wait for, and where each begins there."""

    collective: Ints
    awaited: Ints
    begins: Ints


class Level(Struct, frozen=True):
    """Points that can be worked off at once: all of collectives, or all between them."""

    points: Ints
    sources: Sources
    together: Together | None = None


def levels_of(points: Points, meetings: Meetings) -> tuple[Level, ...]:
    """All levels, lowest first. Every point is in one of them."""
    is_row = points.row != UNKNOWN
    item, level = np.full(len(is_row), UNKNOWN), np.zeros(len(is_row), np.int64)
    item[is_row], level[is_row] = meetings.item[points.row[is_row]], meetings.level[points.row[is_row]]
    when = _when(points, level * _STEPS, ~is_row)
    order = np.lexsort((item, when))
    cuts = np.flatnonzero(np.diff(when[order])) + 1
    point_of = np.full(len(meetings.item), UNKNOWN)
    point_of[points.row[is_row]] = np.flatnonzero(is_row)
    level_of = np.zeros(len(meetings.item) + int(meetings.item.max(initial=0)), np.int64)
    level_of[meetings.item] = meetings.level
    ahead: dict[int, list[tuple[int, int]]] = {}
    for row, collective in zip(meetings.ahead.tolist(), meetings.awaited_by.tolist(), strict=True):
        if level_of[collective] and point_of[row] != UNKNOWN:
            ahead.setdefault(int(level_of[collective]) * _STEPS, []).append((int(point_of[row]), collective))
    return tuple(
        Level(mine, sources_of(points, mine), _together(item[mine], mine, ahead.get(int(when[mine[0]]), [])))
        for mine in np.split(order, cuts)
        if len(mine)
    )


def _when(points: Points, when: Ints, between: Mask) -> Ints:
    """When each point is worked off: those between collectives one step after the last of their sources."""
    chosen = np.flatnonzero(between & (np.diff(points.pointer) > 0))
    sources = sources_of(points, chosen)
    source = points.source[sources.place]
    while len(chosen):
        then = np.maximum.reduceat(when[source], sources.begins) + 1
        if np.array_equal(then, when[chosen]):
            break
        when[chosen] = then
    return when


def _together(item: Ints, mine: Ints, ahead: list[tuple[int, int]]) -> Together | None:
    """How the points of a level meet; None of those between collectives."""
    if item[0] == UNKNOWN:
        return None
    awaited = np.concatenate([mine, np.array([point for point, _ in ahead], np.int64)])
    of_awaited = np.concatenate([item, np.array([collective for _, collective in ahead], np.int64)])
    order = np.argsort(of_awaited, kind="stable")
    collective = np.cumsum(np.diff(item, prepend=item[0]) != 0)
    begins = np.flatnonzero(np.diff(of_awaited[order], prepend=-1))
    return Together(collective, awaited[order], begins)
