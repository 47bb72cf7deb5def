"""Lay the collectives of two ranks beside each other when nothing numbers them.

Every step issues the same collectives, so position proves nothing: one of the windows may begin a step later. A shift is possible
if all that lies beside each other agrees, and ends as far apart; the best one brings equal numbers of steps together, and without
numbers the ends nearest. If events are missing in the middle, no shift is possible: then those are the same that end at the same
time, for ranks leave a collective together; and where clocks do not allow that, the longest agreeing runs are.
"""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.table import UNKNOWN, Ints

# Fewer than this share of the shorter window beside each other proves nothing.
_LEAST_OVERLAP = 0.25
# Clocks are apart by the same time at so many of the collectives that a shift lays beside each other.
_STEADY = 0.9
# Ends are the same if they are nearer than this share of the time from one collective to the next. If fewer rows than half have
# such an end, clocks are too far apart to tell.
_SAME_END, _MOST = 0.05, 0.5
# Rows that are compared over all shifts, some seconds of work. Of more, the shifts nearest to those that bring the begins, the
# ends, equal times or equal steps together are tried.
_MOST_COMPARED = 1 << 24
# Pairs of rows that agree; with more of them the longest runs take minutes to find, and prove nothing.
_MOST_PAIRS = 1 << 22


class Sequence(Struct, frozen=True):
    """What one rank did in one group, in order (or rows to choose from), shape (n,) each.

    Attributes:
        sign: what must be equal in one collective: its kind, and its size where that is the same on all ranks.
        step: number of the step, -1 outside or if numbers of steps mean nothing.
        end: when it ended, by the rank's own clock.
    """

    sign: Ints
    step: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.sign)

    def of(self, rows: Ints) -> Sequence:
        """These rows of it."""
        return Sequence(self.sign[rows], self.step[rows], self.end[rows])


def places_in(reference: Sequence, other: Sequence) -> Ints:
    """For each row of `other` the position of the same collective in `reference`, or one before or after all of it.

    Positions that were not found are `np.iinfo(np.int64).min`.
    """
    if len(reference) == len(other) and (reference.sign == other.sign).all() and _is_in_step(reference, other):
        return np.arange(len(other))
    shift, is_proven = _shift(reference, other)
    by_end = None if is_proven else _by_end(reference, other)
    if by_end is not None:
        return by_end
    return _by_runs(reference, other) if shift is None else np.arange(len(other)) + shift


NOWHERE = int(np.iinfo(np.int64).min)


def _is_in_step(reference: Sequence, other: Sequence) -> bool:
    """Whether rows of equal position are of one step, or without numbers of steps, nearer than one row to the next."""
    known = (reference.step != UNKNOWN) & (other.step != UNKNOWN)
    if known.any():
        return bool(np.median(reference.step[known] - other.step[known]) == 0)
    if len(reference) < 2:
        return True
    apart = np.abs(np.median(reference.end - other.end))
    return bool(apart <= np.median(np.abs(np.diff(reference.end))) / 2)


def _shift(reference: Sequence, other: Sequence) -> tuple[int | None, bool]:
    """The best possible shift, and whether numbers of steps or near ends prove it."""
    usual = float(np.median(np.diff(np.sort(reference.end)))) if len(reference) > 1 else np.inf
    least = max(1, int(_LEAST_OVERLAP * min(len(reference), len(other))))
    best: tuple[tuple[int, float], int] | None = None
    for shift in _shifts(reference, other, least):
        ours = slice(max(shift, 0), min(len(reference), shift + len(other)))
        theirs = slice(ours.start - shift, ours.stop - shift)
        if not np.array_equal(reference.sign[ours], other.sign[theirs]):
            continue
        apart = reference.end[ours] - other.end[theirs]
        if np.quantile(np.abs(apart - np.median(apart)), _STEADY) > usual / 2:
            continue
        steps = reference.step[ours]
        known = (steps != UNKNOWN) & (other.step[theirs] != UNKNOWN)
        same = int((known & (steps == other.step[theirs])).sum())
        if known.any() and not same:
            continue
        key = (-same, float(np.abs(np.median(apart))))
        if best is None or key < best[0]:
            best = (key, shift)
    return (None, False) if best is None else (best[1], best[0] < (0, usual / 2))


def _shifts(reference: Sequence, other: Sequence, least: int) -> list[int]:
    """The shifts to try, ascending: all that lay enough rows beside each other, or if that is too much, the likely ones."""
    every = np.arange(least - len(other), len(reference) - least + 1)
    most = max(_MOST_COMPARED // min(len(reference), len(other)), 1)
    if len(every) > most:
        likely = np.array([0, len(reference) - len(other), *_by_time_and_step(reference, other)])
        far = np.abs(every[:, None] - likely).min(axis=1)
        every = np.sort(every[np.argsort(far, kind="stable")[:most]])
    chosen: list[int] = every.tolist()
    return chosen


def _by_time_and_step(reference: Sequence, other: Sequence) -> list[int]:
    """The shifts that bring equal ends, and equal numbers of steps together, as far as one place tells."""
    ours, theirs = np.sort(reference.end), np.sort(other.end)
    found = [int(np.searchsorted(ours, theirs[0])) - int(np.searchsorted(theirs, ours[0]))]
    known = [one.step[one.step != UNKNOWN] for one in (reference, other)]
    if all(map(len, known)):
        first = max(int(step.min()) for step in known)
        found.append(int((reference.step >= first).argmax()) - int((other.step >= first).argmax()))
    return found


def _by_end(reference: Sequence, other: Sequence) -> Ints | None:
    """Positions of the rows of the same sign that end at the same time; None if most do not."""
    if len(reference) < 2:
        return None
    nearest, back = _nearest(reference, other), _nearest(other, reference)
    at = np.flatnonzero(nearest != NOWHERE)
    at = at[back[nearest[at]] == at]
    apart = np.abs(reference.end[nearest[at]] - other.end[at])
    at = at[apart <= _SAME_END * np.median(np.diff(np.sort(reference.end)))]
    if len(at) < _MOST * min(len(reference), len(other)):
        return None
    found = np.full(len(other), NOWHERE)
    found[at] = nearest[at]
    return found


def _nearest(reference: Sequence, other: Sequence) -> Ints:
    """For each row of `other` the row of `reference` of the same sign that ends nearest, the first of several."""
    found = np.full(len(other), NOWHERE)
    ours, theirs = (_by_sign(one) for one in (reference, other))
    for sign, rows in theirs.items():
        among = ours.get(sign)
        if among is None:
            continue
        end, sought = reference.end[among], other.end[rows]
        after = np.searchsorted(end, sought)
        before = np.clip(after - 1, 0, None)
        after = np.clip(after, None, len(end) - 1)
        nearer = np.where(np.abs(sought - end[before]) <= np.abs(end[after] - sought), before, after)
        found[rows] = among[np.searchsorted(end, end[nearer])]
    return found


def _by_sign(one: Sequence) -> dict[int, Ints]:
    """The rows of each sign, in order of their ends."""
    order = np.lexsort((one.end, one.sign))
    signs, begins = np.unique(one.sign[order], return_index=True)
    return dict(zip(signs.tolist(), np.split(order, begins[1:]), strict=True))


def _by_runs(reference: Sequence, other: Sequence) -> Ints:
    """Positions by the longest runs that agree; the number of the step is part of what must agree where it is known."""
    ours, theirs = (list(zip(one.sign.tolist(), one.step.tolist(), strict=True)) for one in (reference, other))
    found = np.full(len(other), NOWHERE)
    count = Counter(theirs)
    if sum(count[row] for row in ours) > _MOST_PAIRS:
        return found
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        found[block.b : block.b + block.size] = np.arange(block.a, block.a + block.size)
    return found
