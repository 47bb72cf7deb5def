"""cold-cache: priced by the measured ratio of warm to cold steps, withheld without one, silent where storage is not to blame."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.diagnose import diagnose
from mfu_doctor.facts import HostFacts, LoaderFacts
from mfu_doctor.result.report import FAILED, WITHHELD
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.cold_cache import cold_cache
from mfu_doctor.rules.input.input_bound import input_bound
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

MB = 1e6
FETCH, KERNEL = 12_000, 8_000
STEP_S = (FETCH + KERNEL) / 1e6
STEADY = (STEP_S,) * 12
HALVED = (STEP_S,) * 8 + (STEP_S / 2,) * 4  # the usual step is still a cold one
THIRD_LESS = (STEP_S,) * 8 + (STEP_S * 0.7,) * 4


def loop(
    timed: tuple[float, ...], rate: float | None = 180 * MB, *, fetch: int = FETCH, sync: bool = True, workers: int = 0
) -> Run:
    """Steps that fetch, compute and (with `sync`) wait for the device."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch)
            drawn.op("aten::mm", kernel=KERNEL)
            if sync:
                drawn.sync()
    loader = LoaderFacts(class_name="DataLoader", num_workers=workers, fetches=6)
    host = HostFacts(disk_read_bytes_s=rate, memory_available_bytes=64 << 30)
    return run_of(drawn, host=host, timed_steps_s=timed, loaders=(loader,))


def test_a_warm_cache_takes_the_measured_part_of_the_wait() -> None:
    """D (1 - warm/cold) = 12 ms x 0.5; half of it at the low end, all fetches at the high end."""
    price = price_us(cold_cache, loop(HALVED))
    assert price.low_ns == close(3_000)
    assert price.mid_ns == close(6_000)
    assert price.high_ns == close(12_000)


def test_the_finding_says_what_was_measured() -> None:
    finding = found(cold_cache, loop(HALVED))
    assert finding.summary.startswith("GPU waits for data 60 % of the step: 180 MB/s come from storage")
    assert finding.summary.endswith("steps fell from 20.0 ms to 10.0 ms as the cache filled")
    assert "180 MB/s came from storage" in finding.fix
    assert finding.detail is not None
    assert "64.0 GiB" in finding.detail
    assert (finding.effort, finding.risk, finding.confidence) == ("refactor", "none", "modelled")
    assert finding.withhold is None


def test_no_more_is_promised_than_the_usual_step_takes_above_a_warm_one() -> None:
    """From 30 ms the steps soon fall to 22 and then to 20 ms: the usual one takes a tenth more than a warm one."""
    falling = (STEP_S * 1.5,) * 4 + (STEP_S * 1.1,) * 4 + (STEP_S,) * 4
    assert price_us(cold_cache, loop(falling)).mid_ns == close(20_000 * (1 - 20 / 22))


def test_a_cache_that_filled_by_itself_early_promises_nothing() -> None:
    """Two thirds of the steps were as fast as a warm one, so the usual step is one already."""
    early = (STEP_S * 2,) * 4 + (STEP_S,) * 8
    price = price_us(cold_cache, loop(early))
    assert price.low_ns == price.mid_ns == close(0)


def test_a_fetch_that_begins_behind_a_busy_device_counts_only_what_the_device_waits() -> None:
    """Without waiting for the device 12 ms of fetching leave it idle for 4 ms: half of those are saved."""
    times = (FETCH / 1e6,) * 8 + (FETCH / 2e6,) * 4
    assert price_us(cold_cache, loop(times, sync=False)).mid_ns == close(2_000)


@pytest.mark.parametrize("times", [STEADY, STEADY[:8] + (STEP_S * 0.9,) * 4, HALVED[::-1]])
def test_steps_that_do_not_get_faster_are_a_hint_that_promises_nothing(times: tuple[float, ...]) -> None:
    run = loop(times)
    finding, price = found(cold_cache, run), price_us(cold_cache, run)
    assert finding.confidence == "hint"
    assert finding.withhold is not None
    assert "between the first and the last third" in finding.withhold
    assert price.low_ns == price.mid_ns == close(0)
    assert price.high_ns == close(FETCH)


def test_too_few_timed_steps_are_said_with_the_option_that_times_more() -> None:
    finding = found(cold_cache, loop(STEADY[4:]))
    assert finding.confidence == "hint"
    assert finding.withhold is not None
    assert "8 timed steps: from nothing to 12.0 ms a step; time more with --timed 30" in finding.withhold


@pytest.mark.parametrize("rate", [0.0, 5 * MB])
def test_an_idle_disk_is_no_finding(rate: float) -> None:
    assert cold_cache.judge(loop(HALVED, rate)) is None


def test_data_that_is_not_waited_for_may_come_from_anywhere() -> None:
    assert cold_cache.judge(loop(HALVED, fetch=100)) is None
    assert cold_cache.judge(loop(HALVED, fetch=5_000, sync=False)) is None
    assert cold_cache.judge(loop(HALVED, None, fetch=100)) is None


def test_unknown_reads_are_not_judged() -> None:
    skip = cold_cache.judge(loop(HALVED, None))
    assert isinstance(skip, Skip)
    assert "/proc/<pid>/io" in skip.reason


def test_a_run_without_fetches_is_not_judged() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000)
    assert isinstance(cold_cache.judge(run_of(drawn, host=HostFacts(disk_read_bytes_s=1e9))), Skip)


def test_bursts_of_workers_are_no_cache_that_fills() -> None:
    """Two workers deliver two batches at a time: steps alternate, and their means do not fall."""
    bursts = (STEP_S * 1.8, STEP_S * 0.2) * 6
    assert found(cold_cache, loop(bursts, workers=2)).confidence == "hint"


def test_storage_that_is_most_of_the_wait_explains_it() -> None:
    """A user sees one root cause: more workers do not read faster."""
    report = diagnose(loop(HALVED).recorded)
    cold, bound = report.diagnosis("cold-cache"), report.diagnosis("input-bound")
    assert cold is not None
    assert bound is not None
    assert (cold.status, cold.explained_by) == (FAILED, None)
    assert bound.explained_by == "cold-cache"


def test_storage_that_is_a_small_part_of_the_wait_hides_no_other_advice() -> None:
    report = diagnose(loop(THIRD_LESS).recorded)
    cold, bound = report.diagnosis("cold-cache"), report.diagnosis("input-bound")
    assert cold is not None
    assert bound is not None
    assert (cold.status, bound.status) == (FAILED, FAILED)
    assert cold.explained_by is bound.explained_by is None


def test_what_is_withheld_explains_nothing() -> None:
    report = diagnose(loop(STEADY).recorded)
    cold, bound = report.diagnosis("cold-cache"), report.diagnosis("input-bound")
    assert cold is not None
    assert bound is not None
    assert (cold.status, bound.status, bound.explained_by) == (WITHHELD, FAILED, None)
    assert found(input_bound, loop(STEADY)).symptom_of == ()
