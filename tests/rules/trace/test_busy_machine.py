"""busy-machine: a caution where other processes were busy meanwhile; quiet machines and busy devices are silent."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.facts import HostFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.trace.busy_machine import busy_machine
from tests.rules.judging import found, run_of, silent
from tests.timeline import Timeline


def loop(*, kernel: int | None = None) -> Timeline:
    drawn = Timeline(device=None) if kernel is None else Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000, kernel=kernel)
    return drawn


def machine(others: float | None, *, own: float = 0.7, cores: int | None = 2, affinity: int = 2) -> HostFacts:
    return HostFacts(cores=cores, affinity=affinity, cpu_share=own, other_cpu_share=others, load_average=7.5)


def test_times_recorded_on_a_busy_machine_come_with_a_caution() -> None:
    run = run_of(loop(), host=machine(1.3))
    assert ("load average", 7.5) in [(e.name, e.value) for e in found(busy_machine, run).evidence]
    assert "Other processes used 1.3 of the 2 cores" in found(busy_machine, run).summary
    assert any("1.3 of the 2 cores" in caution for caution in diagnose(run.recorded).cautions)


def test_a_quiet_machine_is_silent_and_an_unknown_one_not_judged() -> None:
    silent(busy_machine, run_of(loop(), host=machine(0.1)))
    assert isinstance(busy_machine.judge(run_of(loop(), host=machine(None))), Skip)
    assert isinstance(busy_machine.judge(run_of(loop(), host=machine(1.3, cores=None))), Skip)


def test_who_hardly_ran_is_not_blamed_for_a_long_wait() -> None:
    """Threads of the program waited half the step for each other; others had a hundredth of a core."""
    turns = CoreTurns(training_ran=0.6, training_waited=0.3, pool_threads=1, pool_ran=0.5, pool_waited=0.4)
    silent(busy_machine, run_of(loop(), host=replace(machine(0.01, own=1.9), worker_cpu_share=0.0, turns=turns)))
    busy = run_of(loop(), host=replace(machine(0.06, own=1.9), worker_cpu_share=0.0, turns=turns))
    assert (
        "the training thread waited for a core 30 % of the time, part of it for them"
        in found(busy_machine, busy).summary
    )


def test_what_linux_counted_is_told_and_not_how_much_longer_a_step_may_be() -> None:
    """ "Training waited for a core 12 % of the step because of them" stood there, and Linux had counted 4.8 %."""
    turns = CoreTurns(training_ran=0.95, training_waited=0.081, pool_threads=1, pool_ran=0.93, pool_waited=0.066)
    host = replace(machine(0.14, own=1.86), worker_cpu_share=0.0, turns=turns)
    assert "waited for a core 8 % of the time" in found(busy_machine, run_of(loop(), host=host)).summary
    silent(busy_machine, run_of(loop(), host=replace(host, turns=replace(turns, training_waited=0.048))))


def test_cores_to_spare_are_silent() -> None:
    silent(busy_machine, run_of(loop(), host=machine(1.5, own=1.0, cores=4, affinity=4)))


def test_a_pinned_process_shares_only_what_the_rest_of_the_machine_cannot_have_held() -> None:
    """20 cores' worth of others fit on the 60 cores outside; of 62 at least two are on this process's four."""
    silent(busy_machine, run_of(loop(), host=machine(20.0, own=3.8, cores=64, affinity=4)))
    crowded = run_of(loop(), host=machine(62.0, own=2.0, cores=64, affinity=4))
    assert "Other processes used 2.0 of the 4 cores" in found(busy_machine, crowded).summary


def test_processes_beside_the_quota_of_a_container_take_nothing_from_it() -> None:
    """A container with 2 of 8 cores: what others use on the other 6 is not its loss; of 7.3 cores' worth, 1.3 is."""
    host = HostFacts(cores=8, affinity=8, cgroup_cpus=2.0, cpu_share=0.7)
    silent(busy_machine, run_of(loop(), host=replace(host, other_cpu_share=6.0)))
    crowded = run_of(loop(), host=replace(host, other_cpu_share=7.3))
    assert "Other processes used 1.3 of the 2 cores" in found(busy_machine, crowded).summary


def test_a_device_that_hides_its_host_does_not_care() -> None:
    silent(busy_machine, run_of(loop(kernel=5_000), host=machine(1.3)))
