"""Time by the user's lines: what the operators of each line take on the device, forward and backward, longest first.

Nothing here is a fault. Where no rule has a remedy, the reader still learns which line the time belongs to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED, SKIPPED
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.result.step import CodeLine
from mfu_doctor.units import NS_PER_S

TOP = 15


def code_lines(run: Run) -> tuple[CodeLine, ...]:
    """The lines with most device time per step, longest first; () if neither stacks nor samples tell lines.

    Work in backward belongs to the line of the operator that caused it, the optimizer's to that of its step. Work without a
    known line is left out.
    """
    steps, activity = run.steps, run.activity
    spent = steps.overlap(activity.start, activity.end).astype(np.float64)
    mine = np.flatnonzero((spent > 0) & (run.launches.op >= 0) & (activity.kind != COMMUNICATION))
    ops, which = numbered(run.launches.op[mine])
    places = run.places(ops)
    named = sorted({place for place in places if place is not None})
    if not named:
        return ()
    code = {place: i for i, place in enumerate(named)}
    line = np.array([code.get(place, -1) if place is not None else -1 for place in places], np.int64)[which]
    mine, line = mine[line >= 0], line[line >= 0]
    count = int(steps.weight.sum())
    seconds = np.bincount(line, spent[mine], minlength=len(named)) / NS_PER_S / count
    part = spent[mine] / np.maximum(activity.end - activity.start, 1)[mine]
    work = (run.flops.per_entry(EXECUTED) - run.flops.per_entry(SKIPPED))[mine] * part
    flops = np.bincount(line, work, minlength=len(named)) / count
    at_peak = np.bincount(line, work / _peak_of(run, mine), minlength=len(named)) / count
    step_s = steps.mean_ns / NS_PER_S
    return tuple(
        CodeLine(
            place=named[i],
            seconds=float(seconds[i]),
            share=float(seconds[i]) / step_s,
            flops=float(round(flops[i])) or None,
            peak_share=share if 0 < (share := float(at_peak[i] / seconds[i])) <= 1 else None,
        )
        for i in np.argsort(-seconds, kind="stable")[:TOP].tolist()
        if seconds[i] > 0
    )


def _peak_of(run: Run, entries: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Dense peak in FLOP/s of the dtype that each entry computes in; infinite if it is unknown."""
    peaks = np.array([(run.peaks.of(dtype) if dtype else None) or np.inf for dtype in DTYPE_CODES], np.float64)
    found: npt.NDArray[np.float64] = peaks[run.kernels.dtype[entries]]
    return found
