"""Makes a large trace out of a small one: its events again and again, later each time and with ids of their own.

    python benchmarks/make_trace.py 500MB /tmp/s500.json [small.json.gz]

The layout is the one that libkineto writes (a few lines per event), so a reader sees what a longer recording of the same
loop would have been. The number of distinct names and shapes stays as it is, as in a real loop.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
TRACES = Path(os.environ.get("MFU_DOCTOR_TRACES", ROOT.parent / "shared" / "traces"))
DEFAULT = "h100_timesformer_inference.pt.trace.json.gz"
FALLBACK = ROOT / "tests" / "fixtures" / "torch213_cpu.json.gz"
# Arguments that number something: each copy of an event gets its own.
IDS = {"External id", "external id", "correlation", "Ev Idx", "Python id", "Python parent id", "Sequence number"}
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
TS, ID = object(), object()


def small_trace(path: Path | None) -> Path:
    """The trace to repeat: the one given, else a real one, else a fixture."""
    real = TRACES / DEFAULT
    return path or (real if real.exists() else FALLBACK)


def parse_size(text: str) -> int:
    """Bytes from a text such as 500MB."""
    return int(float(text[:-2]) * UNITS[text[-2:].upper()])


def make(small: Path, target: Path, size: int) -> int:
    """Write a trace of about `size` bytes; returns the number of events written."""
    raw = small.read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Fraction)
    listed = data["traceEvents"] if isinstance(data, dict) else data
    header = {k: v for k, v in data.items() if k != "traceEvents"} if isinstance(data, dict) else {}
    timed = [e for e in listed if e.get("ph") != "M" and e.get("cat") != "Trace" and "ts" in e]
    meta = [e for e in listed if e.get("ph") == "M"]
    start = min(_ns(e["ts"]) for e in timed)
    period = max(_ns(e["ts"]) + _ns(e.get("dur", 0)) for e in timed if e.get("ph") == "X") - start + 1000
    stride = max((v for e in timed for v in _ids(e)), default=0) + 1
    pieces = [_template(e) for e in timed]
    written = 0
    with target.open("w") as out:
        out.write(_head(header))
        out.write(",\n".join("".join(_fill(_template(e), 0, 0)) for e in meta) or "")
        first = not meta
        while out.tell() < size:
            written += _copy(out, pieces, (written // len(pieces), period, stride), first=first)
            first = False
        out.write("\n  ],\n" + _foot(header))
    return written + len(meta)


def _copy(out: TextIO, pieces: list[list[Any]], shift: tuple[int, int, int], *, first: bool) -> int:
    copy, period, stride = shift
    text = ",\n".join("".join(_fill(piece, copy * period, copy * stride)) for piece in pieces)
    out.write(text if first else ",\n" + text)
    return len(pieces)


def _ids(event: dict[str, Any]) -> list[int]:
    args = event.get("args") or {}
    found = [args[k] for k in IDS if isinstance(args.get(k), int)]
    return [*found, event["id"]] if isinstance(event.get("id"), int) else found


def _ns(microseconds: Any) -> int:
    return round(Fraction(microseconds) * 1000)


def _template(event: dict[str, Any]) -> list[Any]:
    """An event as libkineto lays it out: texts, and in between (TS, nanoseconds) and (ID, number)."""
    parts: list[Any] = ["  {\n    "]
    line = [k for k in ("ph", "cat", "name", "s", "bp", "pid", "tid") if k in event]
    parts.append(", ".join(f"{_text(k)}: {_text(event[k])}" for k in line))
    if "id" in event:
        parts += [', "id": ', (ID, event["id"])]
    if "ts" in event:
        parts += [',\n    "ts": ', (TS, _ns(event["ts"]), isinstance(event["ts"], int))]
    if "dur" in event:
        parts.append(f', "dur": {_text(event["dur"])}')
    if event.get("args"):
        parts.append(',\n    "args": {\n      ')
        for i, (key, value) in enumerate(event["args"].items()):
            parts.append(f"{', ' if i else ''}{_text(key)}: ")
            parts.append((ID, value) if key in IDS and isinstance(value, int) else _text(value))
        parts.append("\n    }")
    parts.append("\n  }")
    return _joined(parts)


def _joined(parts: list[Any]) -> list[Any]:
    """Neighbouring texts made one."""
    out: list[Any] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        else:
            out.append(part)
    return out


def _fill(parts: list[Any], ns: int, ids: int) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif part[0] is ID:
            yield str(part[1] + ids)
        else:
            time = part[1] + ns
            yield str(time // 1000) if part[2] else f"{time // 1000}.{time % 1000:03d}"


def _text(value: Any) -> str:
    return json.dumps(value, default=float)


def _head(header: dict[str, Any]) -> str:
    front = {k: v for k, v in header.items() if k in ("schemaVersion", "deviceProperties", "distributedInfo")}
    return "\n{\n" + "".join(f"  {_text(k)}: {_text(v)},\n" for k, v in front.items()) + '  "traceEvents": [\n'


def _foot(header: dict[str, Any]) -> str:
    back = {k: v for k, v in header.items() if k not in ("schemaVersion", "deviceProperties", "distributedInfo")}
    back.setdefault("traceName", "made by benchmarks/make_trace.py")
    return ",\n".join(f"  {_text(k)}: {_text(v)}" for k, v in back.items()) + "\n}\n"


if __name__ == "__main__":
    given = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    count = make(small_trace(given), Path(sys.argv[2]), parse_size(sys.argv[1]))
    print(f"{sys.argv[2]}: {count:,} events, {Path(sys.argv[2]).stat().st_size:,} bytes")
