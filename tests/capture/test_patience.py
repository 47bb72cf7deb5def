"""Waiting for a thread: a process that was stopped meanwhile has lost one turn of it, and what never comes ends it."""

from __future__ import annotations

import threading

import pytest

from mfu_doctor.capture.patience import Patience, came, joined
from tests.patience import LONGEST_S


def test_time_in_which_the_process_was_stopped_counts_once() -> None:
    """The wait that was under way then is over at once, without what it was for; a later one has it."""
    waits: list[float] = []

    def wait(longest_s: float) -> bool:
        waits.append(longest_s)
        return len(waits) == 3

    assert came(wait, 2.0)
    assert len(waits) == 3
    assert max(waits) <= 0.05


@pytest.mark.parametrize("longest_s", [0.001, 0.12, 2.0])
def test_all_turns_together_are_no_longer_than_was_said(longest_s: float) -> None:
    waits: list[float] = []

    def wait(longest_s: float) -> bool:
        waits.append(longest_s)
        return False

    assert not came(wait, longest_s)
    assert sum(waits) == pytest.approx(longest_s)


def test_a_thread_that_does_not_let_python_go_makes_it_a_few_turns() -> None:
    """Each turn takes ten seconds of the clock then: a quarter of one counts."""
    clock, waits = iter(range(0, 1000, 10)), []

    def wait(longest_s: float) -> bool:
        waits.append(longest_s)
        return False

    assert not came(wait, 0.5, clock=lambda: float(next(clock)))
    assert len(waits) == 2


def test_several_waits_have_one_limit_and_those_that_came_count_too() -> None:
    clock = iter(range(0, 1000, 10))
    patience = Patience(0.5, clock=lambda: float(next(clock)))
    assert patience.came(lambda _: True)
    assert patience
    assert patience.came(lambda _: True)
    assert not patience


def test_a_thread_that_goes_on_is_left_and_one_that_ends_is_waited_for() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert not joined(thread, 0.01)
    over.set()
    assert joined(thread, LONGEST_S)
