"""Operators whose results are for nothing: another call made the same, or nothing reads them.

profile() counts such calls in a step beside the recorded ones, by operator, shapes of its tensors and line of the user. Calls in
forward of the same operator on the same shapes take the same time, so what is needless of them is needless of their time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.attribution import between_operators, inherited, shapes_of
from mfu_doctor.analysis.evidence.backward import in_backward, maker_of, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import OperatorResults
from mfu_doctor.intervals import Intervals
from mfu_doctor.trace import Category

Dims = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """Needless parts of the calls of an operator, and of the calls of its backward."""

    forward: float
    backward: float


@dataclass(frozen=True, slots=True)
class WastedResults:
    """What is computed for nothing.

    Attributes:
        forward: needless part of what each entry of the activity table computes, in forward only, shape (n,).
        share: the same, with the backward of those calls.
        between: host time between two operators all of whose calls are needless.
        place_ns: nanoseconds per mean step of forward by line of the user.
        operators: the same by operator.
    """

    forward: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    between: Intervals
    place_ns: Counter[str]
    operators: Counter[str]

    @property
    def place(self) -> str | None:
        """The line with most of it."""
        return max(self.place_ns, key=lambda place: self.place_ns[place], default=None)


def wasted_results(run: Run, steady: Steady, part: Callable[[OperatorResults], Parts]) -> WastedResults | None:
    """What is needless where such parts of calls are; None if there is nothing, or if operators were not watched."""
    told = run.facts.operators if run.facts is not None else None
    needless = [one for one in told.results if part(one).forward] if told is not None else []
    if not needless:
        return None
    rows_of = _forward_rows(run, {one.operator for one in needless})
    value, behind = np.zeros((2, len(run.trace.events.name)))
    places: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    per_row = _device_ns(run, steady)
    for one in needless:
        rows = rows_of.get((one.operator, one.dims), [])
        parts = part(one)
        value[rows] = np.minimum(value[rows] + parts.forward, 1.0)
        behind[rows] = np.minimum(behind[rows] + parts.backward, 1.0)
        spent = float(per_row[rows].sum()) * parts.forward
        places[one.place or ""] += spent  # type: ignore[assignment]
        operators[one.operator.removeprefix("aten::")] += spent  # type: ignore[assignment]
    entries = run.launches.op
    forward = inherited(run, entries, value)
    nodes = node_calls(run, run.trace.rows(Category.CPU_OP))
    makers = maker_of(run, nodes)
    between = between_operators(run, np.flatnonzero(value == 1.0))
    value[nodes] = np.where(makers >= 0, behind[np.maximum(makers, 0)], 0.0)
    places.pop("", None)
    return WastedResults(forward, inherited(run, entries, value), between, places, operators)


def _forward_rows(run: Run, names: set[str]) -> dict[tuple[str, Dims], list[int]]:
    """Rows of operators with these names by their name and the shapes of their tensors."""
    found: dict[tuple[str, Dims], list[int]] = defaultdict(list)
    rows: Rows = run.trace.rows(Category.CPU_OP)
    ids = run.trace.name_ids(names)
    rows = rows[np.isin(run.trace.events.name[rows], ids)]
    rows = rows[~in_backward(run, rows)]
    for row in rows.tolist():
        found[run.trace.name_of(row), shapes_of(run, row)].append(row)
    return found


def _device_ns(run: Run, steady: Steady) -> npt.NDArray[np.float64]:
    """Device time of the mean step by operator row, with all that it calls; shape of the events."""
    spent = np.zeros(len(run.trace.events.name))
    per_entry = (run.activity.end - run.activity.start) * steady.entry_part(run)
    row = run.launches.op.astype(np.int64)
    while (row >= 0).any():
        known = row >= 0
        np.add.at(spent, row[known], per_entry[known])
        row = np.where(known, run.ops.parent[np.maximum(row, 0)], -1)
    return spent
