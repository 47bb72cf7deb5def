"""The steps of a run as windows of time, which of them are analysed, and how often each stands in the mean step."""

from __future__ import annotations

import math
from enum import IntEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import union
from mfu_doctor.result.step import LONG


class StepKind(IntEnum):
    """Whether a recorded step is analysed, or why it is excluded (see `step_kinds`)."""

    STEADY = 0
    WARM_UP = 1
    DISTURBED = 2

    @property
    def reason(self) -> str | None:
        """Why a step of this kind is excluded; None for an analysed one."""
        return None if self is StepKind.STEADY else self.name.lower().replace("_", "-")


class Steps(Struct, frozen=True):
    """Step windows; arrays of shape (k,), windows are contiguous and half-open, in nanoseconds.

    `host_start`/`host_end` are the host-side marks (equal to the window on a CPU-only trace).
    `opening`/`closing` are the entries of `Activity` whose starts bound the window, -1 if something else does (a host mark,
    the end of all work).
    """

    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    host_start: npt.NDArray[np.int64]
    host_end: npt.NDArray[np.int64]
    opening: npt.NDArray[np.int64]
    closing: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]  # `StepKind` of each; at least one step is steady
    source: str  # ProfilerStep, optimizer, periodicity, whole trace
    note: str | None = None  # what the reader of the report must know about the choice
    often: tuple[int, int] | None = None  # long steps: how many of how many; None: as many as were recorded

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.number)

    @property
    def steady(self) -> npt.NDArray[np.bool_]:
        """Which steps are analysed, shape (k,)."""
        judged: npt.NDArray[np.bool_] = self.kind == StepKind.STEADY
        return judged

    @property
    def duration(self) -> npt.NDArray[np.int64]:
        """Length of each window in nanoseconds."""
        return self.end - self.start

    @property
    def long(self) -> npt.NDArray[np.bool_]:
        """Which analysed steps are long, shape (k,): more than `LONG` times the median one."""
        return self.steady & (self.duration > LONG * float(self.duration[self.median]))

    @property
    def weight(self) -> npt.NDArray[np.int64]:
        """How often each step stands in the mean one, shape (k,); 0: left out."""
        return self.weight_among(self.steady)

    def weight_among(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The same if only these steps stand for the run: long ones together as often as `often` says, the others likewise.

        Args:
            chosen: which analysed steps, shape (k,).
        """
        long = self.long & chosen
        slow, usual = int(long.sum()), int((chosen & ~long).sum())
        if self.often is None or not slow or not usual:
            return chosen.astype(np.int64)
        each = self.often[0] * usual, (self.often[1] - self.often[0]) * slow
        common = math.gcd(*each)
        return np.where(long, each[0] // common, each[1] // common) * chosen

    @property
    def mean_ns(self) -> float:
        """Length of the mean step."""
        return float((self.duration * self.weight).sum() / self.weight.sum())

    def overlap(self, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Nanoseconds of each ``[start, end)`` in analysed steps, each as often as it stands in the mean one."""
        inside = np.zeros(len(start))
        for often in distinct(self.weight[self.steady]).tolist():
            mine = self.weight == often
            inside += often * union(self.start[mine], self.end[mine]).overlap_with(start, end)
        return inside

    def stretches(self) -> list[tuple[int, int, int]]:
        """The analysed time as start, end and weight, without seams between neighbouring steps of equal weight."""
        weight = np.concatenate(([0], self.weight, [0]))
        edges = np.flatnonzero(np.diff(weight))  # between step i - 1 and step i
        return [
            (int(self.start[a]), int(self.end[b - 1]), int(weight[a + 1])) for a, b in pairwise(edges) if weight[a + 1]
        ]

    @property
    def extent(self) -> tuple[int, int]:
        """From the first to the last nanosecond of all windows, on host and device together; half-open."""
        return int(min(self.start.min(), self.host_start.min())), int(max(self.end.max(), self.host_end.max()))

    @property
    def median(self) -> int:
        """Index of the steady step whose duration is the (lower) median: the step that is drawn."""
        steady = np.flatnonzero(self.steady)
        order = steady[np.argsort(self.duration[steady], kind="stable")]
        return int(order[(len(order) - 1) // 2])
