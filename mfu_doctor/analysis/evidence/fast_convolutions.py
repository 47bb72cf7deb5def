"""What convolutions that PyTorch computes in kernels of its own on a CPU would take in oneDNN, which is for float32."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import owner_of
from mfu_doctor.analysis.evidence.steady_steps import Mask
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]

CONVOLUTIONS = re.compile(r"^aten::convolution(_backward)?$")
# Low, mid, high: of the larger of FLOPs / peak and bytes / bandwidth. Layers of two networks reached 18 to 220 % of the peak
# (torch 2.13, AVX-512).
EFFICIENCIES = (0.25, 0.5, 1.0)


class InOneDNN(Struct, frozen=True):
    """Convolutions as whole calls: the copies, slices and products of PyTorch's own kernels are all part of one.

    Attributes:
        entries: the device work of the calls whose FLOPs are known, shape (n,).
        left: share of its time that each of those entries keeps, at each end.
    """

    entries: Mask
    left: tuple[Floats, Floats, Floats]


def in_onednn(run: Run, entries: Mask, *, bytes_left: float = 1.0) -> InOneDNN | None:
    """What would remain of the convolutions that have these entries; None without a peak, or if none of their FLOPs is known.

    Args:
        run: a CPU-only run.
        entries: some of their device work, shape (n,).
        bytes_left: what remains of their bytes: half if they leave float64.
    """
    peak, bandwidth = run.peaks.of("fp32"), run.peaks.bandwidth
    if not peak or not bandwidth:
        return None
    owner = owner_of(run, CONVOLUTIONS)
    owners, which = numbered(owner)
    flops = np.bincount(which, run.flops.per_entry(EXECUTED), minlength=len(owners))
    mine = np.isin(owners, owner[entries]) & (owners >= 0) & (flops > 0)
    inside: Mask = mine[which]
    if not inside.any():
        return None
    moved = np.bincount(which, np.nan_to_num(run.least_bytes), minlength=len(owners))
    least = np.maximum(flops / peak, bytes_left * moved / bandwidth) * NS_PER_S
    now = np.maximum(np.bincount(which, run.unrecorded_ns, minlength=len(owners)), 1.0)
    low, mid, high = (np.minimum(least / efficiency / now, 1.0)[which[inside]] for efficiency in EFFICIENCIES)
    return InOneDNN(inside, (low, mid, high))
