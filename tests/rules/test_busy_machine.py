"""busy-machine: a caution where other processes were busy meanwhile; quiet machines and busy devices are silent."""

from __future__ import annotations

from mfu_doctor.diagnosis.diagnose import diagnose
from mfu_doctor.facts import HostFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.trace.busy_machine import busy_machine
from tests.rules.judging import found, run_of
from tests.timeline import Timeline


def loop(*, kernel: int | None = None) -> Timeline:
    drawn = Timeline(device=None) if kernel is None else Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000, kernel=kernel)
    return drawn


def machine(others: float | None) -> HostFacts:
    return HostFacts(cores=2, affinity=2, cpu_share=0.7, other_cpu_share=others)


def test_times_recorded_on_a_busy_machine_come_with_a_caution() -> None:
    run = run_of(loop(), host=machine(1.3))
    assert "Other processes used 1.3 of the 2 cores" in found(busy_machine, run).summary
    assert any("1.3 of the 2 cores" in caution for caution in diagnose(run.recorded).cautions)


def test_a_quiet_machine_is_silent_and_an_unknown_one_not_judged() -> None:
    assert busy_machine.judge(run_of(loop(), host=machine(0.1))) is None
    assert isinstance(busy_machine.judge(run_of(loop(), host=machine(None))), Skip)


def test_a_device_that_hides_its_host_does_not_care() -> None:
    assert busy_machine.judge(run_of(loop(kernel=5_000), host=machine(1.3))) is None
