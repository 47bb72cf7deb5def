"""gc-pause: timed collections in the steps are priced by what they hold up; hidden or small ones are no finding."""

from __future__ import annotations

from msgspec import structs

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.garbage import GcPause
from mfu_doctor.rules.host.gc_pause import gc_pause
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

BASE = 1_000_000_000  # unix nanoseconds of the drawn trace's beginning


def loop(pause_us: int, *, kernel: int | None = None, asked: str | None = None) -> Run:
    """Steps of 1000 us of work and a collection."""
    drawn = Timeline(device=None) if kernel is None else Timeline()
    drawn.header["baseTimeNanoseconds"] = BASE
    pauses = []
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000 if kernel is None else 20, kernel=kernel)
            start = BASE + drawn.now * 1000
            pauses.append(GcPause(start_ns=start, duration_ns=pause_us * 1000, generation=2, place=asked))
            drawn.python(pause_us)
    return run_of(drawn, gc_pauses=tuple(pauses))


def test_collections_are_what_they_take_on_a_cpu() -> None:
    price = price_us(gc_pause, loop(600))
    assert price.high_ns == close(600)
    assert price.mid_ns == close(600)
    assert price.low_ns == close(300)
    assert "gc.freeze()" in found(gc_pause, loop(600)).fix


def test_collections_that_a_line_asks_for_are_its_own() -> None:
    finding = found(gc_pause, loop(600, asked="train.py:84"))
    assert finding.place == "train.py:84"
    assert "freeze" not in finding.fix
    assert price_us(gc_pause, loop(600, asked="train.py:84")).low_ns == close(540)


def test_what_python_collects_beside_them_stays() -> None:
    """Three of the five judged steps have a collection that is asked for, two a shorter one of Python's own."""
    run = loop(600)
    assert run.facts is not None
    pauses = [structs.replace(one, place="train.py:84" if i % 2 else None) for i, one in enumerate(run.facts.gc_pauses)]
    longer = [structs.replace(one, duration_ns=one.duration_ns if one.place else 200_000) for one in pauses]
    mixed = Run(structs.replace(run.recorded, facts=structs.replace(run.facts, gc_pauses=tuple(longer))))
    assert price_us(gc_pause, mixed).high_ns == close(3 / 5 * 600)
    assert price_us(gc_pause, mixed).low_ns == close(3 / 5 * 600 - 60)


def test_collections_that_are_rare_already_get_half_as_many() -> None:
    run = loop(6_000)
    assert run.facts is not None
    rare = tuple(structs.replace(one, place="train.py:84") for one in run.facts.gc_pauses[3:4])
    seldom = Run(structs.replace(run.recorded, facts=structs.replace(run.facts, gc_pauses=rare)))
    price = price_us(gc_pause, seldom)
    assert price.low_ns == close(price.high_ns / 2)


def test_what_was_collected_before_the_steps_is_not_theirs() -> None:
    run = loop(600)
    assert run.facts is not None
    early = GcPause(start_ns=1, duration_ns=10**12, generation=2, place="data.py:3")
    run = Run(structs.replace(run.recorded, facts=structs.replace(run.facts, gc_pauses=(early, *run.facts.gc_pauses))))
    assert found(gc_pause, run).place is None


def test_a_collection_behind_a_busy_device_is_worth_nothing() -> None:
    assert price_us(gc_pause, loop(300, kernel=2_000)).high_ns == close(0)


def test_ordinary_housekeeping_is_no_finding() -> None:
    silent(gc_pause, loop(3))


def test_a_run_without_collections_is_no_finding() -> None:
    drawn = Timeline(device=None)
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
    silent(gc_pause, run_of(drawn, tool_version="0.1.0"))
