"""A slow, obvious reader: one parsed Kineto object in, one `Trace` out.

Two uses: the independent reference that the fast reader is compared with, and the way tests turn a drawn timeline (a list of
event dicts) into a `Trace` without writing a file.
"""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mfu_doctor.trace import (
    Category,
    DeviceProperties,
    Distributed,
    EventArgs,
    Events,
    ProcessGroup,
    Recorded,
    Trace,
    Track,
)

CATEGORIES = {
    "cpu_op": Category.CPU_OP,
    "operator": Category.CPU_OP,
    "user_annotation": Category.ANNOTATION,
    "gpu_user_annotation": Category.GPU_ANNOTATION,
    "kernel": Category.KERNEL,
    "gpu_memcpy": Category.MEMCPY,
    "memcpy": Category.MEMCPY,
    "gpu_memset": Category.MEMSET,
    "memset": Category.MEMSET,
    "cuda_runtime": Category.RUNTIME,
    "runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "cuda_sync": Category.SYNC,
    "python_function": Category.PYTHON,
    "overhead": Category.OVERHEAD,
    "privateuse1_runtime": Category.RUNTIME,
    "privateuse1_driver": Category.DRIVER,
    "xpu_runtime": Category.RUNTIME,
    "xpu_driver": Category.DRIVER,
    "xpu_sync": Category.SYNC,
}
EPOCH_NS = 10**18  # times from here on count from 1970 (this is 2001)
ON_DEVICE = {Category.KERNEL, Category.MEMCPY, Category.MEMSET, Category.SYNC, Category.GPU_ANNOTATION}


def load(path: Path) -> Trace:
    """Read a well-formed trace file with the standard library."""
    raw = path.read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Fraction)
    return from_json(data, label=path.name)


def _ns(microseconds: Any) -> int:
    return round(Fraction(microseconds) * 1000)


def _shape(value: Any) -> Any:
    return tuple(_shape(v) for v in value) if isinstance(value, list) else int(value)


def _args(a: dict[str, Any]) -> EventArgs | None:
    def get(key: str, kind: Any) -> Any:
        return None if a.get(key) is None else kind(a[key])

    args = EventArgs(
        dims=get("Input Dims", _shape) or get("Input dims", _shape),
        types=get("Input type", lambda v: tuple(str(x) for x in v)),
        concrete=get("Concrete Inputs", lambda v: tuple(str(x) for x in v)),
        strides=get("Input Strides", _shape),
        grid=get("grid", _shape),
        block=get("block", _shape),
        blocks_per_sm=get("blocks per SM", float),
        occupancy=get("est. achieved occupancy %", float),
        copy_bytes=get("bytes", int) if "bytes" in a else get("size", int),  # ROCm's calls say "size"
        collective=get("Collective name", str),
        collective_dtype=get("dtype", str) if "Collective name" in a else None,
        collective_in=get("In msg nelems", int),
        collective_out=get("Out msg nelems", int),
        group_size=get("Group size", int),
        group=get("Process Group Name", str),
        group_description=get("Process Group Description", str),
        group_ranks=get("Process Group Ranks", lambda v: tuple(json.loads(v)) if "..." not in v else None),
        collective_sequence=get("Seq", int),
        source_rank=get("Src Rank", int),
        target_rank=get("Dst Rank", int),
        sync_kind=get("cuda_sync_kind", str),
        wait_stream=get("wait_on_stream", int),
        wait_record_correlation=get("wait_on_cuda_event_record_corr_id", int),
        call_stack=get("Call stack", str) or None,
    )
    return None if args == EventArgs() else args


def _row(e: dict[str, Any]) -> dict[str, Any]:
    """What one event says, by the column that it is in."""
    a = e.get("args") or {}
    category = CATEGORIES.get(str(e.get("cat", "")).lower(), Category.OTHER)
    device = int(a.get("device", e.get("pid", 0))) if category in ON_DEVICE else None
    tid = a.get("stream", e.get("tid")) if category in ON_DEVICE else e.get("tid")
    start = _ns(e["ts"])
    return {
        "start": start,
        "end": start + _ns(e.get("dur", 0)),
        "category": int(category),
        "frame": int(a.get("Python id", -1)) if category == Category.PYTHON else -1,
        "external_id": -1 if category == Category.PYTHON else int(a.get("External id", a.get("external id", -1))),
        "correlation": int(a.get("correlation", -1)),
        "sequence": int(a.get("Sequence number", -1)),
        "name": str(e.get("name", "")),
        "track": Track(str(e.get("pid", "")), str("" if tid is None else tid).removeprefix("stream "), device),
        "args": _args(a),
    }


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Outer events first, as far as the events tell; whatever their order in the file."""
    track = row["track"]
    ids = [row[key] for key in ("category", "frame", "external_id", "correlation", "sequence", "name")]
    place = (-1 if track.device is None else track.device, track.pid, track.tid)
    return (row["start"], -row["end"], *ids, *place, repr(row["args"]))


def _numbered(values: list[Any]) -> tuple[list[int], tuple[Any, ...]]:
    """A number for each value, in order of appearance, -1 for None; and the values by their number."""
    numbers: dict[Any, int] = {}
    return [-1 if v is None else numbers.setdefault(v, len(numbers)) for v in values], tuple(numbers)


def _groups(spread: dict[str, Any]) -> tuple[ProcessGroup, ...]:
    return tuple(
        ProcessGroup(
            str(g.get("pg_name", "")),
            g.get("pg_desc"),
            g.get("backend_config"),
            g.get("pg_size"),
            tuple(g["ranks"]) if "ranks" in g else None,
        )
        for g in spread.get("pg_config", ())
    )


def from_json(data: dict[str, Any] | list[dict[str, Any]], *, label: str = "drawn") -> Trace:
    """Build a `Trace` from a parsed Kineto object (or a bare list of events); times in the file are microseconds."""
    header: dict[str, Any] = data if isinstance(data, dict) else {}
    listed = data["traceEvents"] if isinstance(data, dict) else data
    rows = [_row(e) for e in listed if e.get("ph") == "X" and str(e.get("cat")) != "Trace"]
    rows.sort(key=_order)
    base = int(header.get("baseTimeNanoseconds", 0))
    origin = min((row["start"] for row in rows), default=0)
    cols = {key: [row[key] for row in rows] for key in Events.__struct_fields__}
    cols["name"], names = _numbered(cols["name"])
    cols["track"], tracks = _numbered(cols["track"])
    cols["args"], kept = _numbered(cols["args"])

    def column(key: str, kind: Any) -> Any:
        values = np.array(cols[key], np.int64)
        return (values - origin if key in ("start", "end") else values).astype(kind)

    spread = header.get("distributedInfo") or {}
    flags = {
        k: bool(header[k]) if k in header else None
        for k in ("record_shapes", "with_stack", "profile_memory", "with_modules")
    }
    return Trace(
        events=Events(
            start=column("start", np.int64),
            end=column("end", np.int64),
            name=column("name", np.int32),
            category=column("category", np.uint8),
            track=column("track", np.int16),
            correlation=column("correlation", np.int64),
            external_id=column("external_id", np.int32),
            sequence=column("sequence", np.int32),
            args=column("args", np.int32),
        ),
        names=tuple(names),
        tracks=tuple(tracks),
        args=tuple(kept),
        devices=tuple(
            DeviceProperties(
                index=int(d.get("id", i)),
                name=str(d.get("name", "")),
                compute_major=d.get("computeMajor"),
                compute_minor=d.get("computeMinor"),
                sms=d.get("numSms"),
                memory_bytes=d.get("totalGlobalMem"),
            )
            for i, d in enumerate(header.get("deviceProperties") or [])
        ),
        distributed=Distributed(spread.get("rank"), spread.get("world_size"), spread.get("backend"), _groups(spread)),
        host=header.get("host_name"),
        recorded=Recorded(flags["record_shapes"], flags["with_stack"], flags["profile_memory"], flags["with_modules"]),
        origin_ns=base + origin if base or origin >= EPOCH_NS else 0,
        label=label,
    )
