"""Our annotations as events of the trace event format, which Perfetto and chrome://tracing read.

They are one process, "mfu-doctor", above the others. It has the steps, the cause of each interval without compute, the findings
at the places where they cost most, and the device samples as counters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mfu_doctor.annotation.remarks import Annotations, Remark, marks
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.render.html.pictures.device import METRICS
from mfu_doctor.render.words.text import clean
from mfu_doctor.result.bottleneck import meaning
from mfu_doctor.units import NS_PER_US, seconds

PID = 1_000_000_007  # above any process id of Linux (2^22) and any device index, so that it clashes with nothing
_STEPS, _OWNERS, _FINDINGS = 1, 2, 3
_TRACKS = {_STEPS: "steps", _OWNERS: "time without compute, by cause", _FINDINGS: "findings"}
_TOP = -1_000  # sort index: above every process that Kineto names


def render_perfetto(annotations: Annotations, shift_ns: int) -> Iterator[bytes]:
    """The events as JSON texts, one by one.

    Args:
        annotations: what to add, in nanoseconds since the trace's origin.
        shift_ns: time of the trace's origin on the clock of the file.
    """
    for event in _events(annotations, shift_ns):
        yield json.dumps(event, separators=(",", ":")).encode()


def _events(annotations: Annotations, shift_ns: int) -> Iterator[dict[str, Any]]:
    yield _meta("process_name", 0, name="mfu-doctor")
    yield _meta("process_sort_index", 0, sort_index=_TOP)
    for tid, name in _TRACKS.items():
        yield _meta("thread_name", tid, name=name)
        yield _meta("thread_sort_index", tid, sort_index=tid)
    for step in annotations.steps:
        split = step.split
        causes = {name: seconds(ns) for name, ns in split.causes.items() if ns}
        shares = {
            name: seconds(getattr(split, name))
            for name in ("compute", "communication", "memory_copy", "data_loading", "idle")
        }
        yield _span(f"step {step.number}", _STEPS, (step.start, step.end), shift_ns) | {"args": shares | causes}
    for owner, start, end in marks(annotations):
        yield _span(meaning(owner), _OWNERS, (start, end), shift_ns)
    for remark in annotations.remarks:
        yield from _remark(remark, shift_ns)
    for samples in annotations.samples if annotations.origin_ns else ():
        yield from _counters(samples, shift_ns - annotations.origin_ns)


def _meta(kind: str, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PID, "tid": tid, "args": args}


def _micro(nanoseconds: int) -> float | int:
    """Microseconds. Whole ones remain integers, so that times since 1970 keep every digit."""
    whole, rest = divmod(nanoseconds, NS_PER_US)
    return whole if not rest else whole + rest / NS_PER_US


def _span(name: str, tid: int, times: tuple[int, int], shift_ns: int) -> dict[str, Any]:
    start, end = times
    return {
        "ph": "X",
        "cat": "mfu_doctor",
        "name": name,
        "pid": PID,
        "tid": tid,
        "ts": _micro(start + shift_ns),
        "dur": _micro(end - start),
    }


def _remark(remark: Remark, shift_ns: int) -> Iterator[dict[str, Any]]:
    args = {"what": clean(remark.summary), "fix": remark.fix, "saves per step": remark.saves, "code": remark.code}
    for rank, spot in enumerate(remark.spots, 1):
        place = {"place": f"{rank} of {len(remark.spots)}", "length_us": _micro(spot.end - spot.start)}
        yield {
            "ph": "i",
            "s": "t",
            "cat": "mfu_doctor",
            "name": remark.rule,
            "pid": PID,
            "tid": _FINDINGS,
            "ts": _micro(spot.start + shift_ns),
            "args": {name: value for name, value in (args | place).items() if value},
        }


def _counters(samples: DeviceSamples, from_unix_ns: int) -> Iterator[dict[str, Any]]:
    """Samples as counters. A missing one is left out, so that the viewer draws no zero."""
    for metric in METRICS:
        name = f"{clean(samples.name or samples.device)} {metric.name}, {metric.unit}"
        for time, value in zip(samples.time_ns, getattr(samples, metric.field), strict=False):
            if value is not None:
                ts = _micro(time + from_unix_ns)
                yield {"ph": "C", "name": name, "pid": PID, "tid": 0, "ts": ts, "args": {"value": value / metric.scale}}
