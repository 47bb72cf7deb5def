"""What a rank had of the cores, from its trace and from what the kernel counted."""

from __future__ import annotations

import pytest

from mfu_doctor.facts import HostFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.job.rank.cores import cores_of
from tests.rules.judging import run_of
from tests.timeline import Timeline

MS = 1_000  # us
OWNERS = ("communication: dp", "communication: issuing", "compute: matmul", "data_loading", "launch", "python")


def drawn_steps() -> Timeline:
    """In each step one of two operators of 1 ms takes 4, by turns; then another rank is waited for, longer and longer."""
    drawn = Timeline(device=None)
    for number in range(6):
        with drawn.step():
            for ms in (1, 4) if number % 2 else (4, 1):
                drawn.op("aten::mm", host=ms * MS)
            drawn.op("c10d::allreduce_", host=10)
            waits = (number + 1) * MS
            drawn.add("user_annotation", "gloo:all_reduce", drawn.now, waits, tid=900)
            drawn.python(waits + 10)
            drawn.op("aten::add_", host=10)
    return drawn


def test_operators_are_held_up_and_waiting_for_ranks_is_not() -> None:
    found = cores_of(run_of(drawn_steps()), OWNERS)
    assert found.operators_held_up_ns == pytest.approx(3 * MS * 1000, rel=0.01)
    assert found.operators == ("communication: issuing", "compute: matmul")
    assert (found.host, found.host_held_up_ns) == (("launch", "python"), 0.0)
    assert found.needed_s is None


def test_what_the_kernel_counted_is_of_the_steps_without_the_profiler() -> None:
    turns = CoreTurns(training_ran=0.5, training_waited=0.6)
    run = run_of(drawn_steps(), host=HostFacts(turns=turns), timed_steps_s=(0.008, 0.012))
    found = cores_of(run, OWNERS)
    assert found.operators_held_up_ns == found.host_held_up_ns == pytest.approx(0.6 * run.steps.mean_ns)
    assert found.needed_s == pytest.approx(1.1 * 0.010)


def test_a_device_needs_no_core() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=100)
    found = cores_of(run_of(drawn), OWNERS)
    assert (found.operators, found.host) == ((), ("launch", "python"))
