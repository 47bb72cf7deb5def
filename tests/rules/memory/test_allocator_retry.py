"""allocator-retry: retries are priced by the allocator's calls in the steps; none, or no statistics, is no finding."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MemoryFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.memory.allocator_retry import allocator_retry
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(retries: int | None, *, ooms: int | None = 0) -> Run:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=100)
            drawn.call("cudaFree", 600)
            drawn.call("cudaMalloc", 400)
    memory = None if retries is None and ooms == 0 else MemoryFacts(alloc_retries=retries, ooms=ooms)
    return run_of(drawn, memory=memory, tool_version="0.1.0")


def test_the_allocators_calls_are_what_a_retry_costs() -> None:
    price = price_us(allocator_retry, loop(4))
    assert price.low_ns == close(500)
    assert price.high_ns == close(910)  # then the 100 us kernel is the limit of the 1010 us step


def test_an_allocation_that_failed_for_good_is_said_with_its_own_number() -> None:
    assert "1 out-of-memory error," in found(allocator_retry, loop(0, ooms=1)).summary
    unknown = found(allocator_retry, loop(None, ooms=2))
    assert "2 out-of-memory errors" in unknown.summary
    assert "retries" not in [e.name for e in unknown.evidence]


def test_no_retries_is_no_finding_and_no_statistics_is_not_judged() -> None:
    silent(allocator_retry, loop(0))
    assert isinstance(allocator_retry.judge(loop(None)), Skip)
    assert isinstance(allocator_retry.judge(loop(None, ooms=None)), Skip)
