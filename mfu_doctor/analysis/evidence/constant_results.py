"""Functions of the program that give the same in every step, and the work that computing it again is.

The recorder knows which functions gave the same numbers from the same arguments. Stacks of the step that was recorded in depth
tell when they ran, and the same operators are found in the steps that give the times.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import draws_random, operators_in, removed_in, work_in
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, outermost
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.source_lines import FRAME, user_place
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts.wasted_work import ConstantResult
from mfu_doctor.trace import Category


class Constants(Struct, frozen=True):
    """Work of which the result is known from the step before.

    Attributes:
        functions: that do it, those first that take most; one that another one calls is a part of it.
        rows: their outermost operators, all steps.
        where: their host time, what is between these operators too.
        mask: entries of the activity table that are theirs, shape (n,).
    """

    functions: tuple[ConstantResult, ...]
    rows: Rows
    where: Intervals
    mask: Mask

    def removed(self, run: Run) -> Change:
        """Without it: at the low end only its device time, else the time to launch it too."""
        return removed_in(run, self.where, self.mask)


def constant_results_of(run: Run) -> Constants | None:
    """The functions whose results could be kept; None if there are none, or if no stacks tell when they run."""
    told = run.facts.constant_results if run.facts is not None else None
    frames = _outermost_calls(run, told or ())
    operators = run.trace.rows(Category.CPU_OP)
    operators = operators[run.trace.events.track[operators] == run.host.main_track]
    origin, events = run.recorded.origin_ns, run.recorded.events
    took: dict[ConstantResult, int] = {}
    found: list[Rows] = []
    for function, rows in frames.items():
        spans = tuple(zip((events.start[rows] + origin).tolist(), (events.end[rows] + origin).tolist(), strict=True))
        made = [one for one in operators_in(run, spans, operators) if len(one)]
        if made and not any(draws_random(run, one) for one in made):
            took[function] = int((events.end[rows] - events.start[rows]).sum())
            found += made
    if not found:
        return None
    where = _spans(run, found)
    which = outermost(run, np.sort(np.concatenate(found)))
    return Constants(tuple(sorted(took, key=took.__getitem__, reverse=True)), which, where, work_in(run, where))


def _outermost_calls(run: Run, told: tuple[ConstantResult, ...]) -> dict[ConstantResult, Rows]:
    """The frames of each of these functions, without those inside of another one's, or of its own."""
    trace = run.recorded
    wanted = {(one.place, one.function): one for one in told}
    of_name: dict[int, ConstantResult] = {}
    for i, name in enumerate(trace.names if wanted else ()):
        frame = FRAME.match(name)
        one = wanted.get((user_place(name) or "", frame["function"])) if frame is not None else None
        if one is not None:
            of_name[i] = one
    rows = trace.rows(Category.PYTHON)
    rows = rows[np.isin(trace.events.name[rows], np.array(list(of_name), np.int64))]
    rows = rows[np.lexsort((-trace.events.end[rows], trace.events.start[rows]))]
    ends = np.maximum.accumulate(trace.events.end[rows]) if len(rows) else rows
    outer = np.append([True], trace.events.start[rows][1:] >= ends[:-1])[: len(rows)]
    calls: dict[ConstantResult, list[int]] = {}
    for row in rows[outer].tolist():
        calls.setdefault(of_name[int(trace.events.name[row])], []).append(row)
    return {one: np.array(its) for one, its in calls.items()}


def _spans(run: Run, calls: list[Rows]) -> Intervals:
    """From the first to the last operator of each call, in every step."""
    events = run.trace.events
    edges = [
        (int(events.start[rows[at]].min()), int(events.end[rows[at]].max()))
        for rows in calls
        for _, at in groups(np.searchsorted(run.steps.host_start, events.start[rows], side="right"))
    ]
    start, end = zip(*edges, strict=True)
    return union(np.array(start, np.int64), np.array(end, np.int64))
