"""The shape of an event as the decoder sees it, and of the fixed-width record it is turned into.

Reading a field of a million events one by one in Python costs more than parsing them. So events are decoded into structs
whose every field is a float, encoded again as msgpack, where a float takes exactly nine bytes, and the result is looked at
as a numpy record array: no Python per field. Names and categories are replaced by float codes in between.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

# What a decoder raises: not JSON, not text, nested deeper than it goes.
FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Stands for "the event has no such argument" if -1 is a possible value (streams, devices); exact in a float64.
ABSENT = -float(2**52)

_RENAMED = {
    "external": "External id",
    "external_2021": "external id",
    "python": "Python id",
    "sequence": "Sequence number",
}

Number = float | str | None


class Args(msgspec.Struct, gc=False, rename=_RENAMED):
    """The arguments kept for every event; a number normally, a string or null in some dialects."""

    correlation: Number = -1.0
    external: Number = -1.0
    external_2021: Number = -1.0
    python: Number = -1.0  # number of a Python frame, in order of their calls
    sequence: Number = -1.0
    stream: Number = ABSENT
    device: Number = ABSENT


class Complete(msgspec.Struct, gc=False, tag_field="ph", tag="X"):
    """A duration event. Strings are replaced by their codes before the event is encoded as a record."""

    ts: float
    name: float | str = ""
    cat: float | str = ""
    pid: Number = ""
    tid: Number = ""
    dur: float = 0.0
    args: Args | None = None


class Begin(msgspec.Struct, gc=False, tag_field="ph", tag="B"):
    """Start of a duration written as a pair of events."""

    ts: float
    name: str = ""
    cat: str = ""
    pid: Number = ""
    tid: Number = ""
    args: Args | None = None


class End(msgspec.Struct, gc=False, tag_field="ph", tag="E"):
    """End of a duration written as a pair of events."""

    ts: float
    pid: Number = ""
    tid: Number = ""


class MemoryArgs(
    msgspec.Struct,
    gc=False,
    rename={"type": "Device Type", "device": "Device Id", "allocated": "Total Allocated", "reserved": "Total Reserved"},
):
    """Arguments of a `[memory]` event; totals are missing in traces of 2021."""

    type: float = -1.0
    device: float = -1.0
    allocated: float = -1.0
    reserved: float = -1.0


class MemoryEvent(msgspec.Struct, gc=False):
    """A `[memory]` event, whatever its phase."""

    name: str = ""
    ts: float = 0.0
    dur: float = 0.0
    args: MemoryArgs | None = None


class Instant(MemoryEvent, gc=False, tag_field="ph", tag="i"):
    """A point in time; only `[memory]` ones are read."""


def _empty(phase: str) -> type[msgspec.Struct]:
    return msgspec.defstruct(f"Phase{ord(phase)}", [], tag_field="ph", tag=phase, gc=False)


# Every other phase of the Chrome trace event format (its "Trace Event Format" document): decoded to an empty struct.
OTHER_PHASES = "MsftICbenpqOSTNDPRcv(),"
_Event: Any = Complete | Begin | End | Instant
for _phase in OTHER_PHASES:
    _Event = _Event | _empty(_phase)

KNOWN_PHASES = frozenset(OTHER_PHASES + "XBEi")
EVENTS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[_Event])
LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])  # any sound JSON list
MEMORY_EVENTS: msgspec.json.Decoder[MemoryEvent] = msgspec.json.Decoder(MemoryEvent)
_ENCODER = msgspec.msgpack.Encoder()

_TOP = ("name", "cat", "pid", "tid", "ts", "dur")
_ARGS = ("correlation", "external", "external_2021", "python", "sequence", "stream", "device")
_FLOAT64 = b"\xcb"  # msgpack's type byte of a 64-bit float


def _layout() -> np.dtype[np.void]:
    """Where each float lies in an encoded event, found by encoding one with known values."""
    probe = {name: 1.5 + i for i, name in enumerate(_TOP + _ARGS)}
    args = Args(**{name: probe[name] for name in _ARGS})
    encoded = _ENCODER.encode(Complete(**{name: probe[name] for name in _TOP}, args=args))
    offsets = [encoded.index(_FLOAT64 + struct.pack(">d", value)) + 1 for value in probe.values()]
    return np.dtype(
        {"names": list(probe), "formats": [">f8"] * len(probe), "offsets": offsets, "itemsize": len(encoded)}
    )


RECORD = _layout()
# Type bytes of the fields that a file can write as strings; the others are floats whatever it writes.
_MARKS = [RECORD.fields[name][1] - 1 for name in ("pid", "tid", *_ARGS)] if RECORD.fields else []


def encode(events: list[Complete]) -> npt.NDArray[np.void] | None:
    """Events as a record array of shape (n,), or None if a field of one of them is not a float."""
    n, width = len(events), RECORD.itemsize
    data = _ENCODER.encode(events)
    header = len(data) - n * width
    if header != (1 if n < 16 else 3 if n < 65536 else 5):
        return None
    raw = np.frombuffer(data, np.uint8, n * width, header).reshape(n, width)
    # An eight-character string is as wide as a float: the type bytes must be looked at.
    different = np.zeros(n, np.uint8)
    for mark in _MARKS:
        different |= raw[:, mark] ^ _FLOAT64[0]
    if different.any():
        return None
    return np.frombuffer(data, RECORD, n, header)
