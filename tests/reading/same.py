"""Compares a trace with what the slow reader makes of the same file, element by element."""

from __future__ import annotations

import numpy as np

from mfu_doctor.reading.arguments import KEPT_CATEGORIES, keeps_arguments
from mfu_doctor.reading.order import narrowed
from mfu_doctor.trace import Category, EventArgs, Trace

COLUMNS = ("start", "end", "category", "correlation", "external_id", "sequence")


def assert_same(trace: Trace, slow: Trace) -> None:
    """Equal in all that both readers know; numbering of names, tracks and arguments may differ.

    The slow reader knows no memory samples, facts, versions or problems, and keeps the arguments of every event.
    """
    assert len(trace.events) == len(slow.events)
    for column in COLUMNS:
        fast, expected = getattr(trace.events, column), getattr(slow.events, column)
        assert fast.dtype == (narrowed(expected) if column == "correlation" else expected).dtype, column
        np.testing.assert_array_equal(fast, expected, err_msg=column)
    assert [trace.names[i] for i in trace.events.name] == [slow.names[i] for i in slow.events.name]
    assert [trace.tracks[i] for i in trace.events.track] == [slow.tracks[i] for i in slow.events.track]
    for row in range(len(trace.events)):
        assert trace.args_of(row) == expected_args(slow, row), trace.name_of(row)
    assert trace.devices == slow.devices
    assert trace.distributed == slow.distributed
    assert trace.recorded == slow.recorded
    assert trace.origin_ns == slow.origin_ns


def expected_args(slow: Trace, row: int) -> EventArgs | None:
    """The arguments that are to be kept of one event."""
    kept = Category(int(slow.events.category[row])) in KEPT_CATEGORIES or keeps_arguments(slow.name_of(row))
    return slow.args_of(row) if kept else None
