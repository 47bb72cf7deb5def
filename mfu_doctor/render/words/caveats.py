"""What the reader may not rely on, in words: what stands first with its remedy, and what only limits the numbers."""

from __future__ import annotations

import re

from mfu_doctor.result.caveats import ADVICE
from mfu_doctor.result.report import Report

_NUMBERS = re.compile(r"\d+")
BETTER = "For better figures:"  # what follows mends the recording, not the training, whose fixes stand below


def first_caveats(report: Report) -> list[tuple[str, str]]:
    """What makes figures or advice wrong, each with its remedy or "": it stands before everything else.

    Where advice would be wrong, nothing else matters. One recording that is better mends several of them: with other numbers the
    same remedy is not told again.
    """
    told = [c for c in report.caveats if c.spoils == ADVICE] or [c for c in report.caveats if c.spoils is not None]
    known, found = {""}, list[tuple[str, str]]()
    for one in told:
        remedy = (one.remedy or "").removeprefix("# ")
        kind = _NUMBERS.sub("", remedy)
        found.append((one.text, "" if kind in known else remedy))
        known.add(kind)
    return found


def caveat(text: str, remedy: str) -> str:
    """A caveat with its remedy: two sentences, because both can have colons of their own."""
    return f"{text.rstrip('.')}. {better(remedy)}" if remedy else text


def better(remedy: str) -> str:
    """A remedy with the words before it."""
    return f"{BETTER} {remedy}"


def cautions(report: Report) -> list[str]:
    """What only limits the numbers, most important first: all that does not stand first."""
    first = {text for text, _ in first_caveats(report)}
    return [c.text for c in report.caveats if c.text not in first]
