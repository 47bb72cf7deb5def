"""How much longer a step is for threads that wait for a core: from what the kernel counted, and from quick steps."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.views.core_waits import CHILDREN, LOADER, OTHERS, OWN, CoreWaits, core_waits
from mfu_doctor.facts import Facts, HostFacts, LoaderFacts
from mfu_doctor.facts.core_turns import CoreTurns
from tests.rules.judging import run_of
from tests.timeline import Timeline

TURNS = CoreTurns(training_ran=0.5, training_waited=0.2, pool_threads=1, pool_ran=0.5, pool_waited=0.2)
HOST = HostFacts(
    cores=2, affinity=2, torch_threads=2, worker_cpu_share=0.6, other_cpu_share=0.2, turns=TURNS, shares_s=2.0
)
WORKER = LoaderFacts(class_name="MultiProcessingDataLoader", num_workers=1)


def waits(host: HostFacts, held_up: float | None = None, *, is_cpu: bool = True) -> CoreWaits:
    found = core_waits(Facts(host=host, loaders=(WORKER,)), is_cpu=is_cpu, held_up=held_up)
    assert isinstance(found, CoreWaits)
    return found


def test_a_pool_that_only_looks_for_work_need_not_be_waited_for() -> None:
    assert waits(HOST).delay == pytest.approx((0.2 + 0.2 * 0.2, 0.2 + 0.45 * 0.2, 1.25 * 0.4))
    assert waits(HOST, is_cpu=False).delay == pytest.approx((0.2, 0.2, 0.25))


@pytest.mark.parametrize(("held_up", "likely"), [(0.35, 0.35), (0.05, 0.29), (0.8, 0.5)])
def test_what_operators_take_in_quick_steps_tells_it_better_within_what_was_waited(
    held_up: float, likely: float
) -> None:
    assert waits(HOST, held_up).delay[1] == pytest.approx(likely)


def test_the_delay_is_of_those_who_have_the_cores() -> None:
    found = waits(HOST)
    assert found.because_of(LOADER)[1] == pytest.approx(0.29 * 0.6 / 0.8)
    assert found.because_of(OTHERS)[1] == pytest.approx(0.29 * 0.2 / 0.8)
    assert found.because_of(LOADER, CHILDREN, OTHERS)[1] == pytest.approx(0.29)
    assert found.because_of(OWN) == (0, 0, 0)


def test_workers_that_ended_are_not_other_processes_of_the_program() -> None:
    """A loader begun anew in each step has new workers each time: none of them was there before and after."""
    assert waits(replace(HOST, loader_cpu_share=0.0)).had[LOADER] == 0.6
    assert waits(replace(HOST, loader_cpu_share=0.4)).had[CHILDREN] == pytest.approx(0.2)


def test_waits_for_each_other_are_nobody_elses() -> None:
    """Six threads on two cores wait 1.6 of each second, 0.8 of them for others."""
    many = replace(HOST, torch_threads=6, turns=replace(TURNS, pool_waited=1.4))
    assert waits(many).because_of(LOADER)[2] == pytest.approx(0.9 * 0.6 / 1.6)


def test_waiting_on_a_long_run_of_nothing_else_leaves_a_tenth() -> None:
    assert waits(replace(HOST, turns=replace(TURNS, training_waited=0.99))).delay[1] == 0.9


def steps_of(*operators: tuple[int, ...]) -> Timeline:
    """One step for each row of operators, which take so many microseconds."""
    drawn = Timeline(device=None)
    for row in operators:
        with drawn.step():
            for us in row:
                drawn.op("aten::mm", host=us)
    return drawn


def test_an_operator_that_is_held_up_in_some_steps_is_quick_in_others() -> None:
    """Each of two operators takes 1 ms, and in every other step 9: of 10 ms in the mean 8 are waiting."""
    ms = 1_000
    drawn = steps_of(*[(ms, 9 * ms), (9 * ms, ms)] * 3)
    run = run_of(drawn, host=replace(HOST, turns=replace(TURNS, training_waited=0.6)), loaders=(WORKER,))
    assert not isinstance(run.core_waits, str)
    assert run.core_waits.delay[1] == pytest.approx(0.8, abs=0.01)


def test_steps_of_other_work_are_not_compared() -> None:
    ms = 1_000
    unlike = steps_of((ms,), (9 * ms, ms), (ms, ms, 9 * ms), (ms,) * 4)
    run = run_of(unlike, host=HOST, loaders=(WORKER,))
    assert not isinstance(run.core_waits, str)
    assert run.core_waits.delay[1] == pytest.approx(0.29)
