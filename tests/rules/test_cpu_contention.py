"""cpu-contention: promises nothing at the low end, is silent on a quiet machine, and is hidden by a busy device."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import HostFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.cpu_contention import cpu_contention
from tests.rules.judging import close, price_us, run_of
from tests.timeline import Timeline


def loop(mine: float | None, others: float, *, kernel: int | None = None) -> Run:
    drawn = Timeline(device=None) if kernel is None else Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000, kernel=kernel)
    return run_of(drawn, host=HostFacts(affinity=4, cpu_share=mine, other_cpu_share=others))


def test_nothing_is_promised_and_the_cores_taken_are_the_most() -> None:
    price = price_us(cpu_contention, loop(2.0, 2.0))
    assert price.low_ns == close(0)
    assert price.mid_ns == close(250)
    assert price.high_ns == close(500)


def test_a_busy_device_hides_it() -> None:
    assert price_us(cpu_contention, loop(2.0, 2.0, kernel=5_000)).high_ns == close(0)


def test_a_quiet_machine_or_spare_cores_are_no_finding() -> None:
    assert cpu_contention.judge(loop(3.5, 0.3)) is None
    assert cpu_contention.judge(loop(1.0, 1.5)) is None


def test_without_cpu_times_it_cannot_judge() -> None:
    assert isinstance(cpu_contention.judge(loop(None, 2.0)), Skip)
