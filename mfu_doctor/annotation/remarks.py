"""What is added to a trace: the steps, the cause of each gap, and the places where a finding costs most.

A timeline viewer shows what happened. The annotation of a gap says why the gap exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.replay.edits import (
    AsyncCopies,
    Change,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    PaceWorkers,
    ReleaseHolds,
    ScaleDevice,
    ScaleHost,
    SetDevice,
    ShortenHost,
    TwoWayLink,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.result.step import IDLE_CAUSES
from mfu_doctor.trace import Trace

# Parts of the step time that get a block. Compute has none, because the device rows of the trace show it.
MARKED = ("data_loading", *IDLE_CAUSES, "communication", "memory_copy")
MOST_SPOTS = 3  # places shown per finding


class Spot(Struct, frozen=True):
    """A place where a finding costs much, in nanoseconds since the trace's origin."""

    start: int
    end: int


class Remark(Struct, frozen=True):
    """A finding and the places where it costs most, the largest cost first."""

    rule: str
    code: str
    summary: str
    fix: str
    saves: str  # predicted saving in words; empty if there is none
    spots: tuple[Spot, ...]


class StepSpan(Struct, frozen=True):
    """One step window and its breakdown, in nanoseconds since the trace's origin."""

    number: int
    start: int
    end: int
    split: Split


class Annotations(Struct, frozen=True):
    """Everything that is added to a trace. Times are nanoseconds since the trace's origin; those of `samples` are unix times."""

    steps: tuple[StepSpan, ...]
    owners: tuple[tuple[str, Intervals], ...]
    remarks: tuple[Remark, ...]
    samples: tuple[DeviceSamples, ...]
    origin_ns: int  # unix time of the trace's origin; 0 if unknown, and then samples cannot be placed


def annotate_run(run: Run, remarks: tuple[Remark, ...]) -> Annotations:
    """Collect the annotations of a run."""
    steps = run.steps
    spans = tuple(
        StepSpan(int(steps.number[i]), int(steps.start[i]), int(steps.end[i]), run.breakdown.steps[i])
        for i in range(steps.count)
    )
    owners = tuple((owner, run.breakdown.owners[owner]) for owner in MARKED)
    samples = run.facts.samples if run.facts is not None else ()
    return Annotations(spans, owners, remarks, samples, run.trace.origin_ns)


def worst_spots(trace: Trace, change: Change, window: tuple[int, int]) -> tuple[Spot, ...]:
    """The places in the window where a fix would save most, the largest saving first.

    Args:
        trace: the trace whose rows the edits name.
        change: what the fix would change.
        window: nanoseconds since the origin, half-open.
    """
    parts = [_cost(trace, edit) for edit in change.mid]
    if not parts:
        return ()
    start, end, saved = (np.concatenate(column) for column in zip(*parts, strict=True))
    inside = np.flatnonzero((start >= window[0]) & (start < window[1]) & (saved > 0))
    best = inside[np.argsort(-saved[inside], kind="stable")][:MOST_SPOTS]
    return tuple(Spot(int(start[i]), int(end[i])) for i in best)


_Cost = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def _cost(trace: Trace, edit: Edit) -> _Cost:
    """Start, end and saved nanoseconds of every place that an edit changes; arrays of shape (k,)."""
    if isinstance(edit, ScaleHost):
        return edit.where.start, edit.where.end, (edit.where.lengths * (1.0 - edit.factor)).astype(np.float64)
    if isinstance(edit, ShortenHost):
        return edit.start, edit.end, (edit.end - edit.start - edit.keep_ns).astype(np.float64)
    if isinstance(edit, TwoWayLink | PaceWorkers):
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    rows = edit.calls if isinstance(edit, DropWaits) else edit.rows
    start, end = trace.events.start[rows], trace.events.end[rows]
    return start, end, _saved(edit, (end - start).astype(np.float64))


def _saved(
    edit: DropWaits | ReleaseHolds | ScaleDevice | SetDevice | AsyncCopies | MergeLaunches | MoveToStream,
    length: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    if isinstance(edit, ScaleDevice):
        return length * (1.0 - edit.factor)
    if isinstance(edit, (SetDevice, AsyncCopies)):
        return length - edit.duration_ns
    return length


def marks(annotations: Annotations) -> Iterator[tuple[str, int, int]]:
    """Every interval without compute as (cause, start, end), in time order."""
    names = [name for name, where in annotations.owners for _ in range(where.count)]
    start = np.concatenate([where.start for _, where in annotations.owners])
    end = np.concatenate([where.end for _, where in annotations.owners])
    for i in np.argsort(start, kind="stable").tolist():
        yield names[i], int(start[i]), int(end[i])
