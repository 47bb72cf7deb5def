"""What mfu-doctor recorded itself, read back from the file: whole, or not at all where it holds what it never wrote."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import asdict

from mfu_doctor.facts import FACTS_VERSION, DeviceSamples, Facts
from mfu_doctor.reading.schema import FAILURES
from mfu_doctor.trace import Problem
from mfu_doctor.units import impossible

MOST_RANKS = 2**20
"""Of a run; the largest have some hundred thousand."""
_NOT_READINGS = ("throttle_s", "notes")  # the other lists of a device's samples have an entry for each moment


def read_facts(data: bytes | None) -> tuple[Facts | None, tuple[Problem, ...]]:
    """The facts in this JSON text, and what is wrong with it."""
    if data is None:
        return None, ()
    try:
        facts = msgspec.json.decode(data, type=Facts)
    except FAILURES as error:
        return None, (_unreadable(str(error)),)
    wrong = next(_wrong(facts), None)
    if wrong is not None:
        return None, (_unreadable(wrong),)
    if facts.version > FACTS_VERSION:
        text = "A newer mfu-doctor wrote this file; metadata that this version does not know are ignored"
        return facts, (Problem("bad-facts", text),)
    return facts, ()


def _unreadable(why: str) -> Problem:
    return Problem("bad-facts", f"The metadata that mfu-doctor recorded cannot be read ({why})")


def _wrong(facts: Facts) -> Iterator[str]:
    """What these facts say that cannot be."""
    if (name := impossible(facts)) is not None:
        yield f"the value of {name} cannot be"
    if facts.world_size is not None and not 0 < facts.world_size <= MOST_RANKS:
        yield "no run has so many ranks"
    if facts.timed_waits_s and len(facts.timed_waits_s) != len(facts.timed_steps_s):
        yield "there are more or fewer waits than steps"
    if (
        min((*facts.timed_steps_s, *facts.beside_steps_s, *facts.profiled_steps_s, *facts.after_steps_s), default=1)
        <= 0
    ):
        yield "a step took no time"
    if any(window.end_ns < window.start_ns or window.steps < 0 for window in facts.windows):
        yield "a window ends before it begins"
    if not all(map(_is_even, facts.samples)):
        yield "a device has more readings of one kind than of another"
    given = facts.given
    if given is not None and any(number is not None and number < 1 for number in (given.model_flops, given.peak_flops)):
        yield "FLOPs that were given are less than one"
    if any(peak.flops < 1 for peak in facts.measured_peaks):
        yield "a measured peak is less than one FLOP/s"


def _is_even(samples: DeviceSamples) -> bool:
    lists = (column for name, column in asdict(samples).items() if name not in _NOT_READINGS)
    return {len(column) for column in lists if isinstance(column, tuple) and column} <= {len(samples.time_ns)}
