"""returned-heap: page faults are priced at what they cost on the machine; few faults, GPUs and unknown costs are no finding."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import HostFacts, LoaderFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.memory.returned_heap import returned_heap
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline


def loop(faults: float | None, cost: float | None, *, kernel: int | None = None, **facts: Any) -> Run:
    """1000 us of operators a step."""
    drawn = Timeline(device=None) if kernel is None else Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000, kernel=kernel)
    return run_of(drawn, host=HostFacts(page_faults_per_s=faults, page_fault_s=cost), **facts)


def test_faults_are_priced_at_what_they_cost_here() -> None:
    """200,000 faults a second at 1 us are a fifth of the step: 200 of 1000 us."""
    run = loop(200_000.0, 1e-6)
    price = price_us(returned_heap, run)
    assert price.low_ns == close(100)
    assert price.mid_ns == price.high_ns == close(200)
    assert found(returned_heap, run).summary.startswith("200 page faults a step take about 20 % of it")


@pytest.mark.parametrize(("faults", "cost"), [(0.0, None), (4_000.0, None), (10_000.0, 1e-6)])
def test_few_faults_are_silent(faults: float, cost: float | None) -> None:
    assert returned_heap.judge(loop(faults, cost)) is None


def test_what_was_not_counted_is_not_judged() -> None:
    assert isinstance(returned_heap.judge(loop(None, None)), Skip)
    assert isinstance(returned_heap.judge(loop(50_000.0, None)), Skip)


def test_on_a_gpu_the_heap_is_not_what_the_step_waits_for() -> None:
    assert returned_heap.judge(loop(200_000.0, 1e-6, kernel=5_000)) is None


def test_batches_in_shared_memory_fault_too_so_runs_with_loader_workers_are_not_judged() -> None:
    """A healthy loader's control run was once told to change its allocator."""
    loaders = (LoaderFacts(class_name="DataLoader", num_workers=2),)
    assert isinstance(returned_heap.judge(loop(200_000.0, 1e-6, loaders=loaders)), Skip)
    assert (
        returned_heap.judge(loop(200_000.0, 1e-6, loaders=(LoaderFacts(class_name="DataLoader", num_workers=0),)))
        is not None
    )
