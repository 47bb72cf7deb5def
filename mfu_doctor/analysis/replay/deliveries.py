"""Batches that worker processes deliver at their own pace: a wait for one is not work of the host that something else can hide.

Where training waits for a batch, the queue of the loader is empty, and the workers take as long as they take. If the host ran
ahead (no synchronisation, faster kernels), it would wait longer for the next batch: from one wait to the next at least the
recorded time passes. Only a fix that shortens the wait itself changes that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.replay.model import Calls, Delivery
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.trace import Trace

Int64 = npt.NDArray[np.int64]

_WORKERS = "_MultiProcessingDataLoaderIter"
# Below this share of the time, waits for batches are what taking a ready one costs, and say nothing about the workers' pace.
_MATTERS = 0.1


def with_deliveries(calls: Calls, trace: Trace, host: Host, window: tuple[int, int]) -> Calls:
    """The calls with the pace of the workers; unchanged if there are none, or if training hardly waits for them.

    Args:
        calls: host calls in order.
        trace: the trace.
        host: what the host threads did.
        window: the time that is replayed.
    """
    start, end = trace.events.start[host.fetch_rows], trace.events.end[host.fetch_rows]
    inside = (start >= window[0]) & (end <= window[1])
    if not inside.any() or not _has_workers(trace, host):
        return calls
    start, end = start[inside], end[inside]
    if (end - start).sum() < _MATTERS * (window[1] - window[0]):
        return calls
    waited = end - start > _MATTERS * (window[1] - window[0]) / len(start)
    start, end = start[waited], end[waited]
    first = np.searchsorted(calls.start, end, side="left")  # the first call after each batch came
    kept = np.append(True, np.diff(first) > 0) & (first < len(calls.start)) if len(first) else np.zeros(0, np.bool_)
    first, start, end = first[kept], start[kept], end[kept]
    pairs = zip(first[:-1].tolist(), first[1:].tolist(), start[1:].tolist(), end[1:].tolist(), strict=True)
    paced = tuple(Delivery(b, a, float(calls.start[b] - calls.start[a]), s, e) for a, b, s, e in pairs)
    return replace(calls, deliveries=paced)


def after_edits(
    deliveries: tuple[Delivery, ...], lost: Callable[[Int64, Int64], npt.NDArray[np.float64]]
) -> tuple[Delivery, ...]:
    """The deliveries that come sooner by what edits take from their waits.

    Args:
        deliveries: as recorded.
        lost: nanoseconds that go from each of some host intervals.
    """
    if not deliveries:
        return deliveries
    gone = lost(np.array([d.start for d in deliveries]), np.array([d.end for d in deliveries]))
    return tuple(replace(d, after_ns=d.after_ns - float(ns)) for d, ns in zip(deliveries, gone, strict=True))


def quicker(deliveries: tuple[Delivery, ...], factor: float) -> tuple[Delivery, ...]:
    """The deliveries of workers that need `factor` of the time for a batch."""
    return tuple(replace(d, after_ns=d.after_ns * factor) for d in deliveries) if factor < 1.0 else deliveries


def _has_workers(trace: Trace, host: Host) -> bool:
    """Whether worker processes load the batches: what capture saw, else what the spans name."""
    loaders = trace.facts.loaders if trace.facts is not None else ()
    if loaders:
        return max(loaders, key=lambda loader: loader.fetches).num_workers > 0
    return any(_WORKERS in trace.name_of(row) for row in host.fetch_rows.tolist())
