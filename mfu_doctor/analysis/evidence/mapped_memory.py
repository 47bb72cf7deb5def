"""Memory that is mapped anew: on a CPU, what moves numbers in large tensors takes much longer than their traffic.

malloc of glibc asks the system for each block of more than 32 MiB, and gives it back at once (mallopt(3): the most that
M_MMAP_THRESHOLD grows to). Each of its pages is filled with zeros when it is first written: multiplying takes 460 ns for
a KiB instead of 90 (measured, one thread). A smaller tensor lies in memory that the process keeps.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.devices.dtypes import element_bytes
from mfu_doctor.trace import EventArgs
from mfu_doctor.units import NS_PER_S

_MAPPED_ANEW = 32 << 20  # bytes


def saved_with_smaller_tensors(run: Run, share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is saved of each entry if this share of its rows goes; shape (n,).

    That is the share. But where tensors were mapped anew and are kept then, what is left of the work that does no products takes
    as much less for its rows as its traffic at the measured bandwidth takes less than it did.
    """
    bandwidth = run.peaks.bandwidth
    moves = (share > 0) & (run.flops.per_entry() == 0)
    if not run.is_cpu or not bandwidth or not moves.any():
        return share
    size = np.where(moves, _largest_tensor(run), 0.0)
    known = (size > _MAPPED_ANEW) & np.isfinite(run.least_bytes)
    if not known.any() or (size * (1.0 - share)).max() > _MAPPED_ANEW:
        return share
    took = float(run.unrecorded_ns[known].sum())
    kept = min(float(run.least_bytes[known].sum()) / bandwidth * NS_PER_S / max(took, 1.0), 1.0)
    return np.where(moves, 1.0 - (1.0 - share) * kept, share)


def _largest_tensor(run: Run) -> npt.NDArray[np.float64]:
    """Bytes of the largest tensor that the operator of each entry got, 0 if shapes do not say; shape (n,)."""
    args, which = numbered(run.trace.events.args[np.maximum(run.launches.op, 0)])
    bytes_of = np.array([_largest(run.trace.args[i]) if i >= 0 else 0.0 for i in args.tolist()])
    return np.where(run.launches.op >= 0, bytes_of[which], 0.0)


def _largest(args: EventArgs) -> float:
    sizes = (
        prod(shape) * (element_bytes(args.type_of(i)) or 0.0)
        for i in range(len(args.dims or ()))
        if (shape := args.shape(i)) is not None
    )
    return max(sizes, default=0.0)
