"""Interval algebra is exact: it agrees with counting nanoseconds one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.arrays.intervals import EMPTY, Intervals, complement, union

END = 60
pairs = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=12)


def build(listed: list[tuple[int, int]]) -> Intervals:
    start = np.array([min(p) for p in listed], np.int64)
    end = np.array([max(p) for p in listed], np.int64)
    return union(start, end)


def cells(where: Intervals) -> set[int]:
    return {t for a, b in zip(where.start.tolist(), where.end.tolist(), strict=True) for t in range(a, b)}


def drawn(listed: list[tuple[int, int]]) -> set[int]:
    return {t for p in listed for t in range(min(p), max(p))}


@given(pairs, pairs)
def test_algebra_equals_sets_of_nanoseconds(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    x, y = build(a), build(b)
    assert cells(x) == drawn(a)
    assert cells(x | y) == drawn(a) | drawn(b)
    assert cells(x & y) == drawn(a) & drawn(b)
    assert cells(x - y) == drawn(a) - drawn(b)
    assert cells(complement(x, 5, 50)) == set(range(5, 50)) - drawn(a)
    assert cells(x.clip(7, 31)) == drawn(a) & set(range(7, 31))


@given(pairs)
def test_results_are_disjoint_sorted_and_not_empty(a: list[tuple[int, int]]) -> None:
    x = build(a)
    assert (x.lengths > 0).all()
    assert (x.start[1:] > x.end[:-1]).all()
    assert x.total_ns == len(drawn(a))


@given(pairs, pairs)
def test_overlap_of_unsorted_queries(a: list[tuple[int, int]], queries: list[tuple[int, int]]) -> None:
    lo = np.array([min(q) for q in queries], np.int64)
    hi = np.array([max(q) for q in queries], np.int64)
    expected = [len(drawn(a) & set(range(p, q))) for p, q in zip(lo.tolist(), hi.tolist(), strict=True)]
    assert build(a).overlap_with(lo, hi).tolist() == expected


def test_empty_sets_behave() -> None:
    x = Intervals(np.array([3]), np.array([9]))
    assert (EMPTY | x).total_ns == 6
    assert (x - EMPTY).total_ns == 6
    assert (EMPTY & x).count == 0
    assert not EMPTY.contains(np.array([4])).any()
    assert x.contains(np.array([2, 3, 8, 9])).tolist() == [False, True, True, False]
