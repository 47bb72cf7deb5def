"""The collectives of one rank: kind, size, exposed time, and how much of that time is waiting for other ranks.

If a peer is late, the collective takes longer on this rank. The fastest of equal collectives waited least, so the time that
others take above it is counted as waiting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION

_KIND = re.compile(
    r"(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast|send_?recv|reduce|gather|scatter|send|recv|barrier)",
    re.IGNORECASE,
)
_BYTES = {
    "float": 4,
    "float32": 4,
    "bfloat16": 2,
    "half": 2,
    "float16": 2,
    "int": 4,
    "int64": 8,
    "long": 8,
    "double": 8,
}
_BYTES |= {"byte": 1, "char": 1, "bool": 1, "int8": 1, "uint8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "int32": 4}
FEW_BYTES = 4096
_OTHER = "collective"
# Fewer equal collectives than this say nothing about which of them waited.
_ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Collectives:
    """All collectives of the trace; arrays of shape (n,), times in nanoseconds.

    Attributes:
        entry: index into the activity table.
        kind: "allreduce", "alltoall", ...
        size: bytes that this rank puts in, -1 if unknown.
        dtype: element type, None if unknown.
        duration_ns: recorded duration.
        exposed_ns: part of it in which nothing was computed.
        exposed_wait_ns: part of `exposed_ns` that is waiting for other ranks.
    """

    entry: Rows
    kind: tuple[str, ...]
    size: Rows
    dtype: tuple[str | None, ...]
    duration_ns: Rows
    exposed_ns: Rows
    exposed_wait_ns: Rows

    @property
    def tiny(self) -> Mask:
        """Which of them carry a few numbers (a metric, a flag, the buffers of a norm) or nothing (a barrier); shape (n,)."""
        barrier = np.array([kind == "barrier" for kind in self.kind], np.bool_)
        return ((self.size >= 0) & (self.size <= FEW_BYTES)) | barrier


def collectives_of(run: Run) -> Collectives | None:
    """The collectives of a run, or None if there are none."""
    activity = run.activity
    entry = np.flatnonzero(activity.kind == COMMUNICATION)
    if not len(entry):
        return None
    start, end = activity.start[entry], activity.end[entry]
    told = [_told(run, row) for row in activity.row[entry].tolist()]
    kind, size, dtype = (tuple(column) for column in zip(*told, strict=True))
    duration = end - start
    exposed = run.breakdown.owners["communication"].overlap_with(start, end)
    sizes = np.array(size, np.int64)
    waiting = duration - _fastest(kind, sizes, duration)
    return Collectives(entry, kind, sizes, dtype, duration, exposed, np.minimum(waiting, exposed))


def _told(run: Run, row: int) -> tuple[str, int, str | None]:
    """Kind, bytes and element type of one collective, as far as its name and arguments tell."""
    args = run.trace.args_of(row)
    name = args.collective if args is not None and args.collective else run.trace.name_of(row)
    match = _KIND.search(name)
    kind = match.group(1).lower().replace("_", "") if match else _OTHER
    if args is None or args.collective_in is None or args.collective_dtype is None:
        return kind, -1, args.collective_dtype if args else None
    width = _BYTES.get(args.collective_dtype.lower())
    return kind, args.collective_in * width if width else -1, args.collective_dtype


def _fastest(kind: tuple[str, ...], size: Rows, duration: Rows) -> Rows:
    """Duration of the fastest collective of the same kind and (known) size; its own if there are too few to compare."""
    kinds = {name: i for i, name in enumerate(sorted(set(kind)))}
    key = np.array([kinds[k] for k in kind], np.int64) * (int(size.max()) + 2) + size + 1
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    best = np.full(len(count), np.iinfo(np.int64).max)
    np.minimum.at(best, group, duration)
    comparable = (count[group] >= _ENOUGH) & (size >= 0)
    return np.where(comparable, best[group], duration)
