"""Waits of the rest of a run: less of them is told; a machine that is busy later is not taken for a quicker loader."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.views.later_waits import LaterWaits

MS = 1e6


def waits(recorded: float, later: float, pace: float) -> LaterWaits:
    return LaterWaits(recorded_ns=recorded * MS, later_ns=later * MS, pace=pace, step_ns=300 * MS)


def test_a_loader_that_waits_much_less_later_is_told() -> None:
    assert waits(244, 61, 1.0).share == pytest.approx(0.25)
    assert waits(244, 61, 0.5).share == pytest.approx(0.5)  # the whole run is twice as quick


def test_the_same_wait_beside_slower_steps_is_the_same_wait() -> None:
    assert waits(244, 243, 3.0).share == 1.0
