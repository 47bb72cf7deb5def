"""The matmuls of a run that are one GEMM each: sizes, dtype, time and efficiency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.analysis.views.once import once
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]


class Gemms(Struct, frozen=True):
    """Entries that compute one matmul whose peak is known; arrays of shape (n,).

    Attributes:
        entry: index into the activity table.
        op: row of the operator.
        batch, m, n, k: sizes.
        dtype: dtype that the kernel computes in.
        duration: nanoseconds.
        flops: FLOP.
        peak: FLOP/s of its dtype.
        memory_ns: least traffic over the bandwidth, 0 if unknown.
    """

    entry: Rows
    op: Rows
    batch: Rows
    m: Rows
    n: Rows
    k: Rows
    dtype: tuple[str | None, ...]
    duration: Floats
    flops: Floats
    peak: Floats
    memory_ns: Floats

    @property
    def efficiency(self) -> Floats:
        """Share of the peak that each reaches, or of the bandwidth if that binds it."""
        ideal = np.maximum(self.flops / self.peak * NS_PER_S, self.memory_ns)
        return np.clip(ideal / np.maximum(self.duration, 1.0), 0.0, 1.0)

    def only(self, keep: Mask) -> Gemms:
        """Those matmuls where `keep` holds."""
        return Gemms(
            self.entry[keep],
            self.op[keep],
            batch=self.batch[keep],
            m=self.m[keep],
            n=self.n[keep],
            k=self.k[keep],
            dtype=tuple(d for d, k in zip(self.dtype, keep.tolist(), strict=True) if k),
            duration=self.duration[keep],
            flops=self.flops[keep],
            peak=self.peak[keep],
            memory_ns=self.memory_ns[keep],
        )

    def at(self, efficiency: float, work: Floats | float = 1.0) -> Floats:
        """Nanoseconds at this share of the peak for `work` times the FLOPs; never below the memory traffic or above today."""
        ideal = np.maximum(self.flops * work / self.peak * NS_PER_S / efficiency, self.memory_ns)
        return np.minimum(ideal, self.duration)


@once
def gemms_of(run: Run) -> Gemms | None:
    """The matmuls of a run with known sizes and peak, or None if there are none."""
    count = run.flops
    sizes = np.array(
        [c.gemm if c.gemm is not None else (0, 0, 0, 0) for c in count.ops.costs] or [(0, 0, 0, 0)], np.int64
    )
    entry = np.flatnonzero(count.owner >= 0)
    of_entry = sizes[count.ops.cost[count.owner[entry]]]
    peak = np.array([run.peaks.of(d) or 0.0 for d in DTYPE_CODES])[count.dtype[count.owner[entry]]]
    keep = (of_entry[:, 1] > 0) & (peak > 0)
    if not keep.any():
        return None
    entry, of_entry, peak = entry[keep], of_entry[keep], peak[keep]
    moved = np.nan_to_num(run.least_bytes[entry])
    code = count.dtype[count.owner[entry]].tolist()
    return Gemms(
        entry,
        count.ops.row[count.owner[entry]],
        batch=of_entry[:, 0],
        m=of_entry[:, 1],
        n=of_entry[:, 2],
        k=of_entry[:, 3],
        dtype=tuple(DTYPE_CODES[c] for c in code),
        duration=(run.activity.end - run.activity.start)[entry].astype(np.float64),
        flops=count.per_entry(EXECUTED)[entry],
        peak=peak,
        memory_ns=moved / run.peaks.bandwidth * NS_PER_S if run.peaks.bandwidth else np.zeros(len(entry)),
    )


def reference_efficiency(gemms: Gemms, among: Mask, otherwise: float) -> tuple[float, float]:
    """Median and best efficiency of some matmuls, unweighted; `otherwise` twice if there are none."""
    values = gemms.efficiency[among]
    if not len(values):
        return otherwise, otherwise
    return float(np.median(values)), float(values.max())
