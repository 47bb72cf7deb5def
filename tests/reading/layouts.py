"""Writes one trace in each of the layouts that exporters have used: only whitespace and key order differ."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")
FRONT = ("schemaVersion", "deviceProperties", "distributedInfo", "record_shapes", "with_stack")


def microseconds(ns: int) -> Decimal:
    """A time with three decimals, as Kineto writes it."""
    return Decimal(ns).scaleb(-3)


def text(value: Any) -> str:
    return _ENCODER.encode(value).decode()


def compact(data: dict[str, Any]) -> bytes:
    """One line, as orjson or `json.dump(separators=...)` leave it."""
    return _ENCODER.encode(data)


def indented(data: dict[str, Any]) -> bytes:
    """One key per line, as `json.dump(indent=2)` leaves it."""
    return msgspec.json.format(_ENCODER.encode(data), indent=2)


def one_line(data: dict[str, Any]) -> bytes:
    """One line with spaces, as `json.dump` leaves it."""
    return msgspec.json.format(_ENCODER.encode(data), indent=0)


def native(data: dict[str, Any]) -> bytes:
    """libkineto until 2025: a few lines per event, metadata in the footer."""
    front = "".join(f"  {text(k)}: {text(v)},\n" for k, v in data.items() if k in FRONT)
    back = "".join(f",\n  {text(k)}: {text(v)}" for k, v in data.items() if k not in (*FRONT, "traceEvents"))
    events = ",\n".join(_native_event(e) for e in data["traceEvents"])
    return f'\n{{\n{front}  "traceEvents": [\n{events}\n  ]{back}\n}}\n'.encode()


def _native_event(event: dict[str, Any]) -> str:
    lines = [
        ", ".join(f"{text(k)}: {text(v)}" for k, v in event.items() if k not in ("ts", "dur", "args")),
        ", ".join(f"{text(k)}: {text(event[k])}" for k in ("ts", "dur") if k in event),
    ]
    if "args" in event:
        inner = ", ".join(f"{text(k)}: {text(v)}" for k, v in event["args"].items())
        lines.append(f'"args": {{\n      {inner}\n    }}')
    return "  {\n    " + ",\n    ".join(line for line in lines if line) + "\n  }"


def torch_2_13(data: dict[str, Any]) -> bytes:
    """libkineto of 2026: one key per line, commas on lines of their own, metadata before the events."""
    front = "".join(f"    {text(k)}: {text(v)},\n" for k, v in data.items() if k not in ("traceEvents", "traceName"))
    events = ",\n".join(_2_13_event(e) for e in data["traceEvents"])
    return f' {{\n{front}    "traceEvents": [\n    \n{events}\n  ],"traceName": {text(data.get("traceName", ""))} }}'.encode()


def _2_13_event(event: dict[str, Any]) -> str:
    lines = ",\n    ".join(f"{text(k)}: {text(v)}" for k, v in event.items() if k != "args")
    inner = ", ".join(f"{text(k)}: {text(v)}" for k, v in event.get("args", {}).items())
    args = f',\n    "args": {{\n      {inner}\n    }}' if "args" in event else ""
    return f"  {{\n    {lines}\n    {args}\n  }}"


LAYOUTS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "compact": compact,
    "indented": indented,
    "one line": one_line,
    "native": native,
    "torch 2.13": torch_2_13,
}
