"""Page faults: they are counted, and one has a price on this machine or none with a reason to have none."""

from __future__ import annotations

import mmap

from mfu_doctor.capture.facts_host import Busy, host_facts
from mfu_doctor.capture.page_faults import fault_seconds, faults_so_far


def test_touching_fresh_memory_is_counted() -> None:
    before = faults_so_far()
    assert before is not None
    with mmap.mmap(-1, 512 * mmap.PAGESIZE) as fresh:
        for at in range(0, len(fresh), mmap.PAGESIZE):
            fresh[at] = 1
        after = faults_so_far()
    assert after is not None
    assert after > before


def test_a_fault_costs_something_or_is_not_known() -> None:
    cost = fault_seconds()
    assert cost is None or cost > 0


def test_the_rate_is_that_of_the_timed_steps_and_cheap_where_it_is_low() -> None:
    """1,000 faults in two seconds are not worth measuring the price of one."""
    before, after = Busy(10.0, 1.0, 1.0, 1.0, faults=500), Busy(12.0, 2.0, 2.0, 2.0, faults=1_500)
    facts = host_facts(before, after)
    assert facts.page_faults_per_s == 500.0
    assert facts.page_fault_s is None
    assert host_facts(None, None).page_faults_per_s is None
