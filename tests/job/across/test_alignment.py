"""Two windows of thousands of collectives are laid beside each other in bounded time and memory, and as before."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mfu_doctor.job.across import alignment
from mfu_doctor.job.across.alignment import NOWHERE, Sequence, places_in
from mfu_doctor.job.across.table import UNKNOWN, Ints

MS = 1_000_000


def window(end: Ints, sign: Ints | None = None, step: Ints | None = None) -> Sequence:
    """Collectives that end at these times, of one kind and without numbers of steps if nothing else is said."""
    return Sequence(
        np.ones(len(end), np.int64) if sign is None else sign,
        np.full(len(end), UNKNOWN) if step is None else step,
        end,
    )


def even(count: int) -> Ints:
    """Ends a millisecond apart."""
    return np.arange(count, dtype=np.int64) * MS


def test_a_lost_event_among_sixteen_thousand_takes_little_memory() -> None:
    """Every row against every other once took 3.9 GB."""
    end = even(16_000)
    kept = np.delete(np.arange(16_000), 8_000)
    tracemalloc.start()
    found = places_in(window(end), window(end[kept]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found == kept).all()
    assert peak < 64 << 20


def test_the_nearest_end_of_the_same_sign_is_that_of_all_pairs() -> None:
    draw = np.random.default_rng(7)
    for _ in range(50):
        ours, theirs = (
            window(np.sort(draw.integers(0, 60, n)), draw.integers(0, 3, n)) for n in draw.integers(1, 40, 2).tolist()
        )
        apart = np.abs(ours.end[:, None] - theirs.end[None, :]).astype(np.float64)
        apart[ours.sign[:, None] != theirs.sign[None, :]] = np.inf
        known = np.isfinite(apart.min(axis=0))
        found = alignment._nearest(ours, theirs)
        assert (found[~known] == NOWHERE).all()
        assert (apart[found[known], np.flatnonzero(known)] == apart.min(axis=0)[known]).all()


@pytest.mark.parametrize("shift", [0, 3, 700])
def test_a_long_window_that_begins_later_is_shifted_though_not_every_shift_is_tried(
    shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "_MOST_COMPARED", 40_000)
    end = even(3_000)
    assert len(alignment._shifts(window(end), window(end[shift:]), 500)) <= 40_000 // 2_000
    by_end = places_in(window(end), window(end[shift:] + MS // 10))
    assert (by_end == np.arange(shift, 3_000)).all()
    step = np.arange(3_000) // 2
    by_step = places_in(window(end, step=step), window(end[shift:] + 90 * MS, step=step[shift:]))
    assert (by_step == np.arange(shift, 3_000)).all()


def test_runs_are_not_sought_among_too_many_equal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends of two clocks that run apart tell nothing; of many equal rows any run agrees."""
    monkeypatch.setattr(alignment, "_MOST_PAIRS", 10_000)
    draw = np.random.default_rng(7)
    ours, theirs = (window(np.cumsum(draw.integers(1, 9, n)) * MS + n * 10**12) for n in (400, 399))
    assert (places_in(ours, theirs) == NOWHERE).all()
