"""What the operators of a CPU-only step would take if each took what it took in the steps in which it was quick.

Steps do the same work. An operator that takes several times as long in one step as in another one was held up there: its threads
had no core, or the caches were used by somebody else meanwhile.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.views.activity import COMMUNICATION, Activity
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.trace import Trace

_ENOUGH = 3  # steps: of two, one is the quicker one by chance alone
_QUICK = 0.2  # the quickest fifth of the steps: the quickest of many would be chance again


class Quickest(Struct, frozen=True):
    """The operators of an analysed step, communication left out.

    Some tenth of the difference is how operators differ anyway.

    Attributes:
        took_ns: what they took, the mean over the steps.
        quick_ns: what they take if each takes what it took in the steps in which it was quick.
    """

    took_ns: float
    quick_ns: float

    @property
    def held_up_ns(self) -> float:
        """What was not needed."""
        return self.took_ns - self.quick_ns

    @property
    def held_up(self) -> float:
        """The same as a share of their time."""
        return self.held_up_ns / self.took_ns if self.took_ns else 0.0


def quickest(trace: Trace, activity: Activity, steps: Steps) -> Quickest | None:
    """The operators of a step and how quick they can be; None if not enough steps have the same ones in the same order.

    Args:
        trace: the trace.
        activity: its operators' own times.
        steps: the steps; only the analysed ones are compared.
    """
    windows = zip(steps.start[steps.steady].tolist(), steps.end[steps.steady].tolist(), strict=True)
    found = [_operators(trace, activity, start, end) for start, end in windows]
    alike = Counter(names.tobytes() for names, _ in found).most_common(1)
    if not alike or alike[0][1] < _ENOUGH:
        return None
    took = np.sort(np.array([ns for names, ns in found if names.tobytes() == alike[0][0]]), axis=0)
    return Quickest(float(took.mean(axis=0).sum()), float(took[int(_QUICK * len(took))].sum()))


def _operators(
    trace: Trace, activity: Activity, start: int, end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The operators of one step in order: their names, and the time of each."""
    first, last = np.searchsorted(activity.start, (start, end))
    mine = first + np.flatnonzero(
        activity.kind[first:last] != COMMUNICATION
    )  # that waits for others, whoever holds them up
    rows, at, which = np.unique(activity.row[mine], return_index=True, return_inverse=True)
    took = np.bincount(which, (activity.end - activity.start)[mine].astype(np.float64), minlength=len(rows))
    order = np.argsort(at)
    return trace.events.name[rows[order]].astype(np.int64), took[order].astype(np.float64)
