"""Page faults: they are counted, and one has a price on this machine or none with a reason to have none."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable

import pytest

from mfu_doctor.capture.facts.host import Busy, host_facts
from mfu_doctor.capture.facts.page_faults import fault_seconds, faults_so_far


def test_touching_fresh_memory_is_counted() -> None:
    before = faults_so_far()
    assert before is not None
    with mmap.mmap(-1, 512 * mmap.PAGESIZE) as fresh:
        for at in range(0, len(fresh), mmap.PAGESIZE):
            fresh[at] = 1
        after = faults_so_far()
    assert after is not None
    assert after > before


def clock_of(*seconds: float) -> Callable[[], float]:
    """A clock by which the first touch takes `seconds[0]`, the second `seconds[1]`, and so on in a circle."""
    edges = [edge for took in seconds for edge in (0.0, took)]
    return itertools.cycle(edges).__next__


def test_a_fault_costs_what_the_first_touch_takes_beyond_the_second() -> None:
    counted = itertools.count(0, 1024).__next__
    assert fault_seconds(clock_of(1.536e-3, 0.512e-3), counted) == pytest.approx(1e-6)


def test_the_quickest_try_counts() -> None:
    counted = itertools.count(0, 1024).__next__
    assert fault_seconds(clock_of(9.0, 0.512e-3, 1.536e-3, 0.512e-3), counted) == pytest.approx(1e-6)


def test_pages_that_do_not_fault_singly_give_no_price() -> None:
    assert fault_seconds(clock_of(2e-3, 1e-3), itertools.count(0, 2).__next__) is None
    assert fault_seconds(clock_of(2e-3, 1e-3), lambda: None) is None


def test_the_rate_is_that_of_the_timed_steps_and_cheap_where_it_is_low() -> None:
    """1,000 faults in two seconds are not worth measuring the price of one."""
    before, after = Busy(10.0, 1.0, 1.0, 1.0, faults=500), Busy(12.0, 2.0, 2.0, 2.0, faults=1_500)
    facts = host_facts(before, after)
    assert facts.page_faults_per_s == 500.0
    assert facts.page_fault_s is None
    assert host_facts(None, None).page_faults_per_s is None
