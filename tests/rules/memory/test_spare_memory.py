"""spare-memory: the gain is samples per second by the closed form; full memory, retries or a small gain are no finding."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import LoaderFacts, MemoryFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.memory.spare_memory import spare_memory
from tests.rules.judging import found, run_of, silent
from tests.timeline import Timeline

GIB = 2**30


def loop(used: int | None, *, python: int = 600, retries: int = 0, batch: int = 32) -> Run:
    """1000 us of kernels and a pause in which the device idles."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000)
            drawn.sync()
            drawn.python(python)
    memory = MemoryFacts(total_bytes=80 * GIB, allocated_peak_bytes=used, alloc_retries=retries)
    loader = LoaderFacts(class_name="DataLoader", num_workers=4, batch_size=batch)
    return run_of(drawn, memory=memory, loaders=(loader,))


def test_the_gain_is_in_samples_per_second() -> None:
    finding = found(spare_memory, loop(20 * GIB))
    step = 1_000 + 600 + 13  # issuing and the sync's return
    assert finding.throughput_gain == pytest.approx(2 * step / (613 + 2 * 1_000) - 1, rel=0.01)
    assert finding.change is None
    assert finding.fix == "batch_size=64"


def test_growth_stops_where_memory_does() -> None:
    """50 of 80 GiB in use: 0.9 / 0.625 = 1.44 times the batch fit."""
    assert found(spare_memory, loop(50 * GIB, python=3_000)).fix == "batch_size=46"


def test_a_batch_grows_by_whole_samples() -> None:
    """1.44 times a batch of 3 is 4 samples, and the gain is theirs; of a batch of 1 it is no second one."""
    finding = found(spare_memory, loop(50 * GIB, python=3_000, batch=3))
    step, fixed = 4_013, 3_013
    assert finding.fix == "batch_size=4"
    assert finding.throughput_gain == pytest.approx(4 / 3 * step / (fixed + 1_000 * 4 / 3) - 1, rel=0.01)
    silent(spare_memory, loop(50 * GIB, python=3_000, batch=1))


@pytest.mark.parametrize("run", [loop(60 * GIB), loop(20 * GIB, retries=2), loop(20 * GIB, python=10)])
def test_no_room_or_no_gain_is_no_finding(run: Run) -> None:
    silent(spare_memory, run)


def test_without_the_peak_it_cannot_judge() -> None:
    assert isinstance(spare_memory.judge(loop(None)), Skip)
