"""cpu-contention: promises nothing at the low end; quiet machines, cores of one's own and busy devices are no finding."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import HostFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.cpu_contention import cpu_contention
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline


def loop(host: HostFacts, *, kernel: int | None = None) -> Run:
    """1000 us of operators a step on the host, each followed by a kernel where there is a device."""
    drawn = Timeline(device=None) if kernel is None else Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000, kernel=kernel)
    return run_of(drawn, host=host)


def machine(
    mine: float | None, others: float | None, *, cores: int | None = 4, affinity: int | None = None
) -> HostFacts:
    return HostFacts(cores=cores, affinity=affinity, cpu_share=mine, other_cpu_share=others, load_average=7.5)


def test_nothing_is_promised_and_the_cores_taken_are_the_most() -> None:
    price = price_us(cpu_contention, loop(machine(2.0, 2.0)))
    assert price.low_ns == close(0)
    assert price.mid_ns == close(250)
    assert price.high_ns == close(500)


def test_it_is_withheld_with_what_it_could_be_worth_because_load_proves_no_waiting() -> None:
    reason = found(cpu_contention, loop(machine(2.0, 2.0))).withhold
    assert reason is not None
    assert "from nothing to 500 us a step" in reason


def test_it_is_a_hint_with_the_load_as_evidence() -> None:
    finding = found(cpu_contention, loop(machine(2.0, 2.0)))
    assert finding.confidence == "hint"
    assert finding.summary == "Other processes use 50 % of the 4 cores"
    assert ("load average", 7.5) in [(e.name, e.value) for e in finding.evidence]


def test_it_counts_where_the_device_waits_for_the_host_and_not_where_it_is_busy() -> None:
    assert price_us(cpu_contention, loop(machine(2.0, 2.0), kernel=100)).high_ns == close(500)
    assert cpu_contention.judge(loop(machine(2.0, 2.0), kernel=5_000)) is None


def test_a_quiet_machine_or_spare_cores_are_no_finding() -> None:
    assert cpu_contention.judge(loop(machine(3.5, 0.3))) is None
    assert cpu_contention.judge(loop(machine(1.0, 1.5))) is None


def test_a_pinned_process_shares_only_what_the_rest_of_the_machine_cannot_have_held() -> None:
    """20 cores' worth of others fit on the 60 cores outside; of 62 at least two are on this process's four."""
    assert cpu_contention.judge(loop(machine(3.8, 20.0, cores=64, affinity=4))) is None
    crowded = loop(machine(2.0, 62.0, cores=64, affinity=4))
    assert found(cpu_contention, crowded).summary == "Other processes use 50 % of the 4 cores"
    assert price_us(cpu_contention, crowded).high_ns == close(500)


def test_without_cpu_times_or_cores_it_cannot_judge() -> None:
    assert isinstance(cpu_contention.judge(loop(machine(None, 2.0))), Skip)
    assert isinstance(cpu_contention.judge(loop(machine(2.0, None))), Skip)
    assert isinstance(cpu_contention.judge(loop(machine(2.0, 2.0, cores=None))), Skip)
