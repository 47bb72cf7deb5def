"""Lay the collectives of two ranks beside each other when nothing numbers them.

Every step issues the same collectives, so position proves nothing: one of the windows may begin a step later. A shift is possible
if all that lies beside each other agrees, and ends as far apart; the best one brings equal numbers of steps together, and without
numbers the ends nearest. If events are missing in the middle, no shift is possible: then those are the same that end at the same
time, for ranks leave a collective together; and where clocks do not allow that, the longest agreeing runs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from mfu_doctor.job.across.table import UNKNOWN, Ints

# Fewer than this share of the shorter window beside each other proves nothing.
_LEAST_OVERLAP = 0.25
# Clocks are apart by the same time at so many of the collectives that a shift lays beside each other.
_STEADY = 0.9
# Ends are the same if they are nearer than this share of the time from one collective to the next. If fewer rows than half have
# such an end, clocks are too far apart to tell.
_SAME_END, _MOST = 0.05, 0.5


@dataclass(frozen=True, slots=True)
class Sequence:
    """What one rank did in one group, in order, shape (n,) each.

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
    for shift in range(least - len(other), len(reference) - least + 1):
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


def _by_end(reference: Sequence, other: Sequence) -> Ints | None:
    """Positions of the rows of the same sign that end at the same time; None if most do not."""
    if len(reference) < 2:
        return None
    apart = np.abs(reference.end[:, None] - other.end[None, :]).astype(np.float64)
    apart[reference.sign[:, None] != other.sign[None, :]] = np.inf
    nearest, back = apart.argmin(axis=0), apart.argmin(axis=1)
    mine = np.arange(len(other))
    same = (back[nearest] == mine) & (apart[nearest, mine] <= _SAME_END * np.median(np.diff(np.sort(reference.end))))
    return np.where(same, nearest, NOWHERE) if same.sum() >= _MOST * min(len(reference), len(other)) else None


def _by_runs(reference: Sequence, other: Sequence) -> Ints:
    """Positions by the longest runs that agree; the number of the step is part of what must agree where it is known."""
    ours, theirs = (list(zip(one.sign.tolist(), one.step.tolist(), strict=True)) for one in (reference, other))
    found = np.full(len(other), NOWHERE)
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        found[block.b : block.b + block.size] = np.arange(block.a, block.a + block.size)
    return found
