"""Whether the step that is recorded with shapes did the work of a timed step.

It is one step, and every so many steps a loop evaluates, samples or saves a checkpoint. Its shapes are those of the timed
steps only if it calls the operators that have FLOPs as often as they do. Steps whose work varies (recurrent, sparse) are
compared with how much the timed steps differ from each other.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import combinations
from typing import Any

from mfu_doctor.flops.table import TABLE

STEP_MARK = "ProfilerStep#"

# A product of two vectors is no work to speak of, and an optimizer with a history (LBFGS) makes more of them in each step.
_COMPARED = frozenset(TABLE) - {"aten::dot", "aten::vdot"}


def calls_of_steps(events: Iterable[Any], stumps: Container[str] = ()) -> list[Counter[str]]:
    """How often each operator with FLOPs was called in each recorded step, in the order of the steps.

    Args:
        events: Kineto's events of a session that has stopped.
        stumps: names of marks that are no steps.
    """
    marks: list[tuple[int, int]] = []
    counted: list[tuple[int, str]] = []
    for event in events:
        name = _name(event)
        if name in _COMPARED:
            counted.append((event.start_ns(), name))
        elif name.startswith(STEP_MARK) and name not in stumps and event.device_type().name == "CPU":
            marks.append((event.start_ns(), event.end_ns()))
    marks.sort()
    starts = [start for start, _ in marks]
    calls: list[Counter[str]] = [Counter() for _ in marks]
    for start, name in counted:
        step = bisect_right(starts, start) - 1
        if step >= 0 and start < marks[step][1]:
            calls[step][name] += 1
    return calls


def in_whole(steps: Sequence[Counter[str]], turn: int) -> Sequence[Counter[str]]:
    """The calls of whole turns of so many steps, counted from the end; of single steps if there is no whole turn."""
    if turn == 1 or len(steps) < turn:
        return steps
    return [sum(steps[end - turn : end], Counter()) for end in range(len(steps), turn - 1, -turn)][::-1]


def _name(event: Any) -> str:
    try:
        return str(event.name())
    except UnicodeDecodeError:  # torch writes garbage for some Python functions (pytorch#121219)
        return ""


def differs(step: Counter[str], timed: Sequence[Counter[str]]) -> str | None:
    """Why a step is not like the timed ones; None if it is, or if there is nothing to compare it with."""
    if not timed:
        return None
    own = statistics.median(_distance(step, other) for other in timed)
    usual = statistics.median([_distance(a, b) for a, b in combinations(timed, 2)] or [0])
    if own <= usual:
        return None
    like = min(timed, key=lambda other: sum(_distance(other, another) for another in timed))
    name = max(step.keys() | like.keys(), key=lambda name: abs(step[name] - like[name]))
    return f"{name} {step[name]} times, the timed steps {like[name]} times"


def _distance(a: Counter[str], b: Counter[str]) -> int:
    return sum(abs(a[name] - b[name]) for name in a.keys() | b.keys())
