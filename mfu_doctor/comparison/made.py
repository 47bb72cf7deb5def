"""Which of the fixes that BEFORE advises were made, as far as AFTER shows it: the problem is gone, or much smaller.

That a finding is no longer listed is not enough. What a fix saves changes with everything else in the step: after another fix, or
among steps that vary more, an unchanged problem can save too little to be listed.
"""

from __future__ import annotations

from collections.abc import Mapping

from mfu_doctor.result.findings import FAILED, PASSED, WITHHELD, Diagnosis
from mfu_doctor.result.report import Report

# A problem of which half is left was worked on: what is not touched varies less between two runs.
_MUCH_SMALLER = 0.5
_SMALL_PART = 0.1  # of the largest amount in its unit; what is less halves by chance
# Counts are left out: many are of the recording or the machine (steps, tokens, cores), not of the problem.
_AMOUNTS = ("s", "per step", "bytes", "bytes per step")


def mended(before: Report, after: Report) -> tuple[str, ...]:
    """Rules of the findings of BEFORE whose problem is gone, or so much smaller that AFTER does not list it."""
    return tuple(d.rule for d in before.failed if _is_mended(d, after.diagnosis(d.rule)))


def made_smaller(before: Report, after: Report) -> tuple[str, ...]:
    """Rules that both runs list, with a much smaller problem in AFTER."""
    pairs = ((old, after.diagnosis(old.rule)) for old in before.failed)
    return tuple(old.rule for old, new in pairs if new is not None and new.status == FAILED and _is_smaller(old, new))


def _is_mended(old: Diagnosis, new: Diagnosis | None) -> bool:
    if new is None:
        return False
    return new.status == PASSED or (new.status == WITHHELD and _is_smaller(old, new))


def _is_smaller(old: Diagnosis, new: Diagnosis) -> bool:
    """Whether much less is left of something that the finding rests on: a time or a size."""
    was, now = _amounts(old), _amounts(new)
    return any(key in now and now[key] <= _MUCH_SMALLER * value for key, value in was.items() if _matters(was, key))


def _matters(amounts: Mapping[tuple[str, str], float], key: tuple[str, str]) -> bool:
    largest = max(value for (unit, _), value in amounts.items() if unit == key[0])
    return amounts[key] > _SMALL_PART * largest


def _amounts(found: Diagnosis) -> dict[tuple[str, str], float]:
    """Its amounts by unit and name; the first one of a name."""
    told = (e for e in reversed(found.evidence) if e.unit in _AMOUNTS and not isinstance(e.value, str))
    return {(e.unit, e.name): float(e.value) for e in told}
