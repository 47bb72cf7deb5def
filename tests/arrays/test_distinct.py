"""Distinct values are those that numpy finds, however the values come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.arrays.distinct import distinct, numbered, numbered_together, places, without

VALUES = st.lists(st.integers(-3, 6), max_size=20)


@given(VALUES, VALUES)
def test_each_value_once_in_order(values: list[int], others: list[int]) -> None:
    mine, taken = np.array(values, np.int64), np.array(others, np.int64)
    assert distinct(mine).tolist() == np.unique(mine).tolist()
    assert without(mine, taken).tolist() == np.setdiff1d(mine, taken).tolist()


@given(VALUES)
def test_each_value_is_found_again(values: list[int]) -> None:
    mine = np.array(values, np.int64)
    found, which = numbered(mine)
    assert found.tolist() == np.unique(mine).tolist()
    assert found[which].tolist() == values


@given(VALUES, VALUES)
def test_places_of_known_values(values: list[int], asked: list[int]) -> None:
    known = sorted(set(values))
    found = places(np.array(known, np.int64), np.array(asked, np.int64))
    assert found.tolist() == [known.index(value) if value in known else -1 for value in asked]


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(0, 1)), min_size=1, max_size=20))
def test_rows_of_several_columns(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    first, which = numbered_together(*columns)
    assert [rows[i] for i in first.tolist()] == sorted(set(rows))
    assert [rows[first[i]] for i in which.tolist()] == rows
    assert first.tolist() == [rows.index(row) for row in sorted(set(rows))]
