"""few-threads: fires where threads are fewer than usable cores, counts ranks and limits, and leaves GPUs alone."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import HostFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.few_threads import few_threads
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(**facts: object) -> Run:
    """800 us of products and 200 us of something else, all on one thread."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::addmm", host=800)
            drawn.op("aten::relu", host=200)
    return run_of(drawn, **facts)


def test_products_spread_over_the_idle_cores() -> None:
    run = loop(host=HostFacts(torch_threads=1, affinity=4))
    price = price_us(few_threads, run)
    assert price.low_ns == close(800 - 800 / (1 + 3 * 0.7))
    assert price.mid_ns == close(800 - 800 / (1 + 3 * 0.85))
    assert price.high_ns == close(1000 - 1000 / 4)
    assert found(few_threads, run).fix == "torch.set_num_threads(4)"


def test_large_operators_beside_the_products_are_split_too() -> None:
    """A relu over a million elements uses the cores at 70 %; one over a thousand stays on its thread."""
    for size, spared in ((1_000_000, 200 - 200 / (1 + 3 * 0.7)), (1_000, 0.0)):
        drawn = Timeline(device=None)
        for _ in range(5):
            with drawn.step():
                drawn.op("aten::addmm", host=800)
                drawn.op("aten::relu", host=200, dims=[[size]], types=["float"])
        price = price_us(few_threads, run_of(drawn, host=HostFacts(torch_threads=1, affinity=4)))
        assert price.mid_ns == close(800 - 800 / (1 + 3 * 0.85) + spared)


@pytest.mark.parametrize(
    ("host", "world_size"),
    [
        (HostFacts(torch_threads=4, affinity=4), None),
        (HostFacts(torch_threads=2, affinity=16, cgroup_cpus=2.0), None),
        (HostFacts(torch_threads=2, affinity=8), 4),
        (HostFacts(torch_threads=1, affinity=2, worker_cpu_share=0.7), None),
        (HostFacts(torch_threads=1, affinity=2, cores=2, other_cpu_share=0.9), None),
    ],
)
def test_all_usable_cores_at_work_is_no_finding(host: HostFacts, world_size: int | None) -> None:
    silent(few_threads, loop(host=host, world_size=world_size))


def test_what_workers_use_is_not_there_for_more_threads() -> None:
    """Of four cores the loader's workers use 1.2: three threads have 2.8 cores."""
    run = loop(host=HostFacts(torch_threads=1, affinity=4, worker_cpu_share=1.2))
    assert found(few_threads, run).fix == "torch.set_num_threads(3)"
    assert price_us(few_threads, run).high_ns == close(1000 - 1000 / 2.8)


def test_what_the_other_ranks_use_is_their_part() -> None:
    run = loop(host=HostFacts(torch_threads=1, affinity=8, cores=8, other_cpu_share=3.0), world_size=4)
    assert found(few_threads, run).fix == "torch.set_num_threads(2)"


def test_without_the_facts_it_cannot_judge() -> None:
    assert isinstance(few_threads.judge(loop(host=HostFacts(affinity=4))), Skip)
    assert isinstance(few_threads.judge(loop(host=HostFacts(torch_threads=1))), Skip)


def test_a_gpu_run_is_not_about_intra_op_threads() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
    silent(few_threads, run_of(drawn, host=HostFacts(torch_threads=1, affinity=8)))
