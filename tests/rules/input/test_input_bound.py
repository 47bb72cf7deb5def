"""input-bound: fires where the device waits for batches, prices by worker throughput, and is silent where workers keep up."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.loader_cores import LOW, MID, loader_cores, with_workers, workers_wanted
from mfu_doctor.analysis.evidence.loading import READY_FETCH_NS, loading_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import HostFacts, LoaderFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.input_bound import input_bound
from mfu_doctor.units import NS_PER_MS, NS_PER_US
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


def test_a_generator_is_replaced_by_a_data_loader() -> None:
    facts = (LoaderFacts(class_name="generator", num_workers=0, fetches=6),)
    run = run_of(loop(12_000, 5_000, name="mfu_doctor.fetch"), loaders=facts)
    assert found(input_bound, run).fix.startswith("DataLoader(dataset, num_workers=")
    assert "# in place of the generator" in found(input_bound, run).fix


def test_no_more_workers_than_cores_are_advised() -> None:
    for host in (HostFacts(cores=64, affinity=2), HostFacts(cores=64, affinity=64, cgroup_cpus=2.5)):
        assert "num_workers=2," in found(input_bound, run_of(loop(12_000, 2_000), host=host)).fix


def test_what_the_advised_workers_leave_of_the_wait_is_said() -> None:
    """57 ms of waiting and a saving of 48 left a reader to ask for the rest. Here two workers deliver every 6 ms."""
    few = found(input_bound, run_of(loop(12_000, 2_000), host=HostFacts(cores=64, affinity=2)))
    assert "and 2 workers leave 3.98 ms of the wait" in (few.detail or "")
    assert "of the wait" not in (found(input_bound, run_of(loop(12_000, 5_000))).detail or "")


def test_starved_workers_are_priced_by_their_throughput() -> None:
    # two workers deliver a batch every 8 ms (16 ms each); the step could take one every 3 ms, so six are needed
    facts = (LoaderFacts(class_name="DataLoader", num_workers=2, fetches=6),)
    run = run_of(loop(5_000, 3_000, name=WORKERS), loaders=facts)
    assert "num_workers=6" in found(input_bound, run).fix
    price = price_us(input_bound, run)
    assert price.low_ns == close(8_000 - 16_000 / 4)
    assert price.high_ns == close(5_000 - READY)


def test_on_saturated_cores_cheaper_loading_is_advised_and_not_more_workers() -> None:
    host = HostFacts(cores=4, affinity=4, cpu_share=1.0, other_cpu_share=2.9)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=3, fetches=6),)
    finding = found(input_bound, run_of(loop(5_000, 3_000, name=WORKERS), loaders=facts, host=host))
    assert "num_workers" not in finding.fix
    assert "3.9 of 4 cores are busy, so more workers do not help" in (finding.detail or "")


def test_beside_a_gpu_more_workers_deliver_no_more_than_the_cores_allow() -> None:
    # 4 cores, 2 of them free: two workers need 16 ms of CPU time per step of 8 ms, training 4; (16 + 4) / 4 = 5 ms
    host = HostFacts(cores=4, affinity=4, cpu_share=0.5, worker_cpu_share=2.0)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=2, fetches=6),)
    run = run_of(loop(5_000, 3_000, name=WORKERS), loaders=facts, host=host)
    assert "num_workers=4" in found(input_bound, run).fix
    price = price_us(input_bound, run)
    assert price.mid_ns == close(8_000 - 5_000)
    assert price.high_ns == close(8_000 - 5_000)


def test_batches_that_come_from_storage_are_said_to() -> None:
    """More workers do not make a disk faster; what of the wait is the disk's is not in a trace, so the price stays."""
    host = HostFacts(disk_read_bytes_s=180e6)
    finding = found(input_bound, run_of(loop(12_000, 5_000), host=host))
    assert "180 MB/s are read from storage" in (finding.detail or "")
    assert ("read from storage", 180e6) in [(e.name, e.value) for e in finding.evidence]
    assert price_us(input_bound, run_of(loop(12_000, 5_000), host=host)) == price_us(
        input_bound, run_of(loop(12_000, 5_000))
    )


def reading(rate: float, *, workers: int = 1, idle: bool = False) -> Run:
    """Steps of 8 ms, 5 of them waits for batches of 256 kB at most, for which so many bytes a second are read.

    All cores are busy, or it is not known that they are.
    """
    told = LoaderFacts(class_name="DataLoader", num_workers=workers, fetches=6, sample_place="data.py:12")
    busy = HostFacts(cores=2, affinity=2, cpu_share=0.4 if workers else 2.0, worker_cpu_share=1.6 if workers else 0.0)
    host = replace(HostFacts(cores=4, affinity=4) if idle else busy, loading_read_bytes_s=rate)
    name = WORKERS if workers else SINGLE
    return run_of(loop(5_000, 3_000, name=name), loaders=(told,), host=host, batch_elements=32_000)


def test_a_file_that_is_read_anew_for_each_sample_is_to_be_kept() -> None:
    """Ten times what a batch has is read for it: the tenth stays, in the middle; another worker would read as much in vain."""
    run = reading(10 * 256e3 / 8e-3)
    finding = found(input_bound, run)
    assert "in __getitem__ of the dataset: read each file once and keep it" in finding.fix
    assert finding.place == "data.py:12"
    assert "2.45 MiB are read for a batch that has 250 KiB at most" in (finding.detail or "")
    price = price_us(input_bound, run)
    assert price.low_ns == close(4_000)
    assert price.mid_ns == close(5_000 - READY)
    assert "read each file once" in found(input_bound, reading(10 * 256e3 / 8e-3, workers=0)).fix


@pytest.mark.parametrize("rate", [0.0, 256e3 / 8e-3, 3 * 256e3 / 8e-3])
def test_reading_about_what_a_batch_has_is_no_fault(rate: float) -> None:
    finding = found(input_bound, reading(rate, idle=True))
    assert "num_workers" in finding.fix
    assert "are read for a batch" not in (finding.detail or "")


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_are_advised_where_cores_are_free_however_much_is_read(workers: int) -> None:
    """Large photos that are made smaller are read in full as well: that much is read is told, and no more."""
    finding = found(input_bound, reading(10 * 256e3 / 8e-3, workers=workers, idle=True))
    assert "num_workers" in finding.fix
    assert "at most: most of it is dropped" in (finding.detail or "")
    assert "anew" not in (finding.detail or "")


def test_training_gets_back_the_cores_of_workers_that_do_less() -> None:
    """Operators that share the cores with a worker look slow: with the files kept they are as quick as alone."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(4_000, WORKERS)
            drawn.op("aten::mm", host=4_000)
    turns = CoreTurns(
        training_ran=0.5, training_waited=0.2, pool_threads=1, pool_ran=0.5, pool_waited=0.0, pool_most_waited=0.0
    )
    host = HostFacts(
        cores=2,
        affinity=2,
        torch_threads=2,
        cpu_share=1.0,
        worker_cpu_share=0.9,
        loader_cpu_share=0.9,
        other_cpu_share=0.0,
        loading_read_bytes_s=10 * 256e3 / 8e-3,
        turns=turns,
    )
    told = (LoaderFacts(class_name="DataLoader", num_workers=1, fetches=6),)
    alone = price_us(input_bound, run_of(drawn, loaders=told, host=replace(host, turns=None), batch_elements=32_000))
    price = price_us(input_bound, run_of(drawn, loaders=told, host=host, batch_elements=32_000))
    assert alone.mid_ns == close(4_000 - READY)
    assert price.mid_ns == close(4_000 - READY + 0.9 * 0.2 * 8_000)


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
    said = found(input_bound, run_of(loop(5_000, 3_000, name=WORKERS)))
    assert "twice as many workers as it has now" in said.fix
    assert said.confidence == "modelled"


def test_a_run_without_fetches_is_not_judged() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000)
    assert isinstance(input_bound.judge(run_of(drawn)), Skip)


def on_cpu(fetch: int, train: int = 4_000) -> Timeline:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch, SINGLE)
            drawn.op("aten::mm", host=train)
    return drawn


def test_workers_that_take_the_cores_of_training_bring_nothing() -> None:
    """Measured with two workers on two cores: 110 ms before, 111 ms after. Loading computes for 67 ms, training on both cores."""
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=(67 + 2 * 43) / 110)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.067),)
    run = run_of(on_cpu(67_000, 43_000), loaders=facts, host=host)
    loading = loading_of(run)
    assert loading is not None
    cores = loader_cores(run, loading)
    assert with_workers(loading, cores, 2, MID) / NS_PER_MS == pytest.approx(110, abs=1)
    assert with_workers(loading, cores, 2, LOW) / NS_PER_MS == pytest.approx(110, abs=1)
    finding = found(input_bound, run)
    assert "num_workers" not in finding.fix
    assert "training uses all cores" in (finding.detail or "")
    assert "torch.set_num_threads(1) and num_workers=1" in (finding.detail or "")
    assert "a step takes about 86.0 ms" in (finding.detail or "")  # 2 * 43 on one core
    price = price_us(input_bound, run)
    assert (price.low_ns, price.mid_ns) == (close(0.25 * 67_000), close(0.5 * 67_000))
    assert price.high_ns == close(67_000 - READY)


def test_fewer_threads_are_no_advice_where_one_core_does_not_do_the_work() -> None:
    # training takes 2 * 43 ms of CPU time and loading 20: on one core training alone takes longer than both do now
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=(20 + 2 * 43) / 63)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.020),)
    detail = found(input_bound, run_of(on_cpu(20_000, 43_000), loaders=facts, host=host)).detail or ""
    assert "training uses all cores" in detail
    assert "set_num_threads" not in detail


def test_a_worker_beside_training_on_one_thread_takes_the_other_core() -> None:
    # one of two threads is busy while training: nothing is taken from it, and the cores allow (10 + 4) / 2 ms
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=1.0)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.010),)
    run = run_of(on_cpu(10_000), loaders=facts, host=host)
    assert "num_workers=2" in found(input_bound, run).fix
    price = price_us(input_bound, run)
    assert price.low_ns == close(14_000 - (4_000 + 10_000 / 2))
    assert price.mid_ns == close(14_000 - 7_000)


@pytest.mark.parametrize(("computes_ms", "workers", "left_ms"), [(20.0, 3, 45.0), (120.0, 1, 145.0), (None, 1, 145.0)])
def test_workers_that_only_wait_can_be_more_than_cores(computes_ms: float | None, workers: int, left_ms: float) -> None:
    """A rank held on one core: a batch is 120 ms of waiting for storage beside 25 ms of training, and one worker was advised.

    With 20 ms of it computing, the core allows a step of 45 ms, which three workers reach. If it computes all the time, or
    nothing tells, a worker on the same core brings nothing.
    """
    spent = 0.0 if computes_ms is None else computes_ms / 1e3
    cpu_share = None if computes_ms is None else (computes_ms + 25.0) / 145.0
    host = HostFacts(cores=2, affinity=1, torch_threads=1, cpu_share=cpu_share)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=spent or None),)
    run = run_of(on_cpu(120_000, 25_000), loaders=facts, host=host)
    loading = loading_of(run)
    assert loading is not None
    cores = loader_cores(run, loading)
    assert workers_wanted(loading, cores) == workers
    assert with_workers(loading, cores, workers, LOW) / NS_PER_MS == pytest.approx(left_ms, abs=1)
    told = found(input_bound, run)
    assert ("can be more of them than cores" in (told.detail or "")) == (workers > 1)


def test_threads_that_leave_a_core_free_lose_nothing_to_a_worker() -> None:
    host = HostFacts(cores=4, affinity=4, torch_threads=2, cpu_share=1.4)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.006),)
    assert price_us(input_bound, run_of(on_cpu(6_000), loaders=facts, host=host)).mid_ns == close(6_000 - READY)


def test_a_starved_worker_that_mostly_waits_is_priced_by_what_two_deliver() -> None:
    """Measured: 131 ms with one worker, 95 ms with two. A worker computes for 30 ms per batch and waits for a slow mount."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(34_000, WORKERS)
            drawn.op("aten::conv1d", host=97_000)
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=160 / 131, worker_cpu_share=30 / 131)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=1, fetches=6),)
    run = run_of(drawn, loaders=facts, host=host)
    assert "num_workers=2" in found(input_bound, run).fix
    price = price_us(input_bound, run)
    assert price.low_ns == close(34_000 - READY)
    assert 131 - price.mid_ns / 1_000 == pytest.approx(95, rel=0.1)


ROOM = HostFacts(cores=8, affinity=8, torch_threads=2, cpu_share=1.7, worker_cpu_share=0.1)


def bursty(*waits: int, device: bool = True, ready: float | None = None, **more: Any) -> Run:
    """A step for each of these fetches from one worker, with 15 ms of work beside it; `ready`: share that found a batch."""
    drawn = Timeline() if device else Timeline(device=None)
    for wait in waits:
        with drawn.step():
            drawn.fetch(wait, WORKERS)
            if device:
                drawn.op("aten::mm", kernel=15_000)
                drawn.sync()
            else:
                drawn.op("aten::mm", host=15_000)
    facts = LoaderFacts(class_name="DataLoader", num_workers=1, fetches=len(waits), ready_share=ready, **more)
    return run_of(drawn, loaders=(facts,), host=ROOM)


@pytest.mark.parametrize("device", [True, False])
@pytest.mark.parametrize("ready", [1.0, 0.9, 0.5])
def test_taking_a_batch_that_is_ready_is_no_wait(device: bool, ready: float) -> None:
    """On a CPU, unpickling a ready batch takes as long as many a wait: how often the queue was empty tells them apart."""
    silent(input_bound, bursty(*(1_000,) * 6, device=device, ready=ready))


@pytest.mark.parametrize(("device", "judged"), [(True, 7), (False, 8)])
def test_late_batches_are_priced_by_the_time_of_their_wait_however_few_they_are(device: bool, judged: int) -> None:
    run = bursty(*(1_000,) * 3, 41_000, *(1_000,) * 4, 41_000, device=device, ready=0.75)
    assert price_us(input_bound, run).high_ns == close(2 * 40_000 / judged)
    told = found(input_bound, run)
    assert "75 % of the batches were ready: workers bring none of those sooner" in (told.detail or "")
    assert told.confidence == "modelled", "taking a batch stays: not all of the fetch goes"


def test_what_taking_a_batch_costs_is_known_where_all_recorded_ones_were_waited_for() -> None:
    run = bursty(*(41_000,) * 6, ready=0.75, ready_wait_s=0.001)
    assert price_us(input_bound, run).high_ns == close(40_000)


@pytest.mark.parametrize(
    ("host", "fetch", "waits"),
    [
        (HostFacts(cores=2, affinity=2, cpu_share=1.95, disk_read_bytes_s=0.0), 2_500, False),
        (HostFacts(cores=8, affinity=8, cpu_share=1.95, worker_cpu_share=0.1, disk_read_bytes_s=0.0), 2_500, False),
        (HostFacts(cores=8, affinity=8, cpu_share=1.95, disk_read_bytes_s=0.0), 2_500, True),  # room for a worker
        (HostFacts(cores=2, affinity=2, cpu_share=1.95, disk_read_bytes_s=90e6), 2_500, True),
        (HostFacts(cores=2, affinity=2, cpu_share=1.95, disk_read_bytes_s=0.0), 12_500, True),
    ],
)
def test_workers_that_neither_compute_nor_read_have_batches_ready(host: HostFacts, fetch: int, waits: bool) -> None:
    """A recording without the readiness of batches: training used 1.95 of 2 cores, so the worker rested most of the time."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch, WORKERS)
            drawn.op("aten::mm", host=40_000)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=1, fetches=6),)
    run = run_of(drawn, loaders=facts, host=host)
    if waits:
        found(input_bound, run)
    else:
        silent(input_bound, run)


def test_workers_of_which_nothing_is_known_are_not_said_to_compute() -> None:
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=1.7, other_cpu_share=0.0)
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(1_000, WORKERS)
            drawn.op("aten::mm", host=15_000)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=1, fetches=6),)
    run = run_of(drawn, loaders=facts, host=host)
    assert "num_workers=2" in found(input_bound, run).fix
    assert price_us(input_bound, run).low_ns == close(0)


def test_without_the_cpu_time_of_loading_the_price_is_as_wide_as_what_is_known() -> None:
    # a CPU-only trace of another profiler: a worker may take all of a core from training, or none
    price = price_us(input_bound, run_of(on_cpu(2_000, 10_000)))
    assert price.low_ns == close(0.25 * 2_000)
    assert price.mid_ns == close(2_000 - 0.5 * 0.5 * 2_000)
    assert price.high_ns == close(2_000 - READY)


def test_on_a_cpu_workers_that_only_wait_cost_no_core() -> None:
    host = HostFacts(affinity=2, torch_threads=2, cpu_share=0.8)  # 2 * 4 / 10: nothing while fetching
    price = price_us(input_bound, run_of(on_cpu(6_000), host=host))
    assert price.mid_ns == close(6_000 - READY)


def test_cores_that_others_give_up_are_there_for_more_workers() -> None:
    """Measured: 118 ms with one worker, 57 with two, beside niced processes that used what was left, 1.2 of the two cores."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(71_000, WORKERS)
            drawn.op("aten::conv1d", host=47_000)
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=0.65, worker_cpu_share=0.15, other_cpu_share=1.2)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=1, fetches=6, ready_share=0.0),)
    assert "num_workers" not in found(input_bound, run_of(drawn, loaders=facts, host=host)).fix
    waits = CoreTurns(training_ran=0.35, training_waited=0.08, pool_threads=1, pool_ran=0.3, pool_waited=0.1)
    run = run_of(drawn, loaders=facts, host=replace(host, turns=waits))
    assert "num_workers=3" in found(input_bound, run).fix
    assert 118 - price_us(input_bound, run).low_ns / 1_000 == pytest.approx(57, rel=0.1)  # of two


def launching(host: int) -> Timeline:
    """Six steps of a fetch of 5 ms and 20 operators that the training thread issues more slowly than the device runs them."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(5_000, SINGLE)
            for _ in range(20):
                drawn.op("aten::mm", kernel=10, host=host)
    return drawn


def test_beside_workers_a_training_thread_that_limits_the_step_is_slower() -> None:
    """Workers on a V100 were promised 57 of 176 ms and brought 40 to 50: every operator of the run with workers took longer."""
    run = run_of(launching(500))
    loading = loading_of(run)
    assert loading is not None
    cores = loader_cores(run, loading)
    working = 20 * 500 * NS_PER_US
    assert cores.beside_ns[MID] == pytest.approx(1.2 * working, rel=0.02)
    assert price_us(input_bound, run).mid_ns == close(5_000 - 0.2 * 10_000)
    assert price_us(input_bound, run).high_ns == close(5_000 - READY)
    assert found(input_bound, run).confidence == "modelled"


def test_where_the_device_limits_the_step_workers_cost_nothing() -> None:
    assert found(input_bound, run_of(loop(12_000, 5_000))).confidence == "measured"
