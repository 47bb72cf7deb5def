"""input-bound: fires where the device waits for batches, prices by worker throughput, and is silent where workers keep up."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.evidence.loading import READY_FETCH_NS
from mfu_doctor.facts import HostFacts, LoaderFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.input_bound import input_bound
from mfu_doctor.units import NS_PER_US
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

READY = READY_FETCH_NS / NS_PER_US
WORKERS = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
SINGLE = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"


def loop(fetch: int, kernel: int, *, name: str = SINGLE, sync: bool = True) -> Timeline:
    """Six steps that fetch, compute and (with `sync`) wait for the device."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch, name)
            drawn.op("aten::mm", kernel=kernel)
            if sync:
                drawn.sync()
    return drawn


def test_a_loader_without_workers_is_priced_down_to_two_workers() -> None:
    # one batch takes 12 ms, the rest of the step 5 ms: two workers deliver every 6 ms, three every 4 ms
    price = price_us(input_bound, run_of(loop(12_000, 5_000)))
    assert price.low_ns == close(17_000 - 6_000)
    assert price.mid_ns == close(12_000 - READY)
    assert price.high_ns == close(12_000 - READY)


def test_the_fix_names_the_workers_that_this_run_needs() -> None:
    finding = found(input_bound, run_of(loop(12_000, 5_000)))
    assert "num_workers=3, pin_memory=True, persistent_workers=True" in finding.fix
    assert finding.summary.startswith("GPU waits for data 7")


def test_no_more_workers_than_cores_are_advised() -> None:
    for host in (HostFacts(cores=64, affinity=2), HostFacts(cores=64, affinity=64, cgroup_cpus=2.5)):
        assert "num_workers=2," in found(input_bound, run_of(loop(12_000, 2_000), host=host)).fix


def test_starved_workers_are_priced_by_their_throughput() -> None:
    # two workers deliver a batch every 8 ms (16 ms each); the step could take one every 3 ms, so six are needed
    facts = (LoaderFacts(class_name="DataLoader", num_workers=2, fetches=6),)
    run = run_of(loop(5_000, 3_000, name=WORKERS), loaders=facts)
    assert "num_workers=6" in found(input_bound, run).fix
    price = price_us(input_bound, run)
    assert price.low_ns == close(8_000 - 16_000 / 4)
    assert price.high_ns == close(5_000 - READY)


def test_a_saturated_cpu_withholds_more_workers() -> None:
    host = HostFacts(cores=4, affinity=4, cpu_share=1.0, other_cpu_share=2.9)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=3, fetches=6),)
    finding = found(input_bound, run_of(loop(5_000, 3_000, name=WORKERS), loaders=facts, host=host))
    assert finding.withhold is not None
    assert "3.9 of 4 cores" in finding.withhold


def test_batches_that_come_from_storage_are_said_to() -> None:
    """More workers do not make a disk faster; what of the wait is the disk's is not in a trace, so the price stays."""
    host = HostFacts(disk_read_bytes_s=180e6)
    finding = found(input_bound, run_of(loop(12_000, 5_000), host=host))
    assert "180 MB/s are read from storage" in (finding.detail or "")
    assert ("read from storage", 180e6) in [(e.name, e.value) for e in finding.evidence]
    assert price_us(input_bound, run_of(loop(12_000, 5_000), host=host)) == price_us(
        input_bound, run_of(loop(12_000, 5_000))
    )


@pytest.mark.parametrize("rate", [None, 0.0, 5e6])
def test_an_idle_disk_is_not_mentioned(rate: float | None) -> None:
    finding = found(input_bound, run_of(loop(12_000, 5_000), host=HostFacts(disk_read_bytes_s=rate)))
    assert "storage" not in (finding.detail or "")
    assert not [e for e in finding.evidence if "storage" in e.name]


def test_a_fetch_hidden_behind_the_device_is_no_finding() -> None:
    """Without workers either: the device never waits for it."""
    silent(input_bound, run_of(loop(2_000, 9_000, sync=False)))


def test_workers_that_keep_up_are_no_finding() -> None:
    silent(input_bound, run_of(loop(30, 9_000, name=WORKERS)))


def test_where_the_number_of_workers_is_unknown_twice_as_many_are_advised() -> None:
    assert "num_workers=2 * num_workers" in found(input_bound, run_of(loop(5_000, 3_000, name=WORKERS))).fix


def test_a_run_without_fetches_is_not_judged() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000)
    assert isinstance(input_bound.judge(run_of(drawn)), Skip)


def on_cpu(fetch: int, host: HostFacts) -> Timeline:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch)
            drawn.op("aten::mm", host=4_000)
    return drawn


def test_on_a_cpu_busy_workers_share_the_cores_with_training() -> None:
    # two cores, training uses both for 4 ms, loading one for 6 ms: no less than (2 * 4 + 6) / 2 = 7 ms a step
    host = HostFacts(affinity=2, torch_threads=2, cpu_share=1.4)  # (2 * 4 + 1 * 6) / 10
    price = price_us(input_bound, run_of(on_cpu(6_000, host), host=host))
    assert price.mid_ns == close(10_000 - 7_000)


def test_on_a_cpu_workers_that_only_wait_cost_no_core() -> None:
    host = HostFacts(affinity=2, torch_threads=2, cpu_share=0.8)  # 2 * 4 / 10: nothing while fetching
    price = price_us(input_bound, run_of(on_cpu(6_000, host), host=host))
    assert price.mid_ns == close(6_000 - READY)
