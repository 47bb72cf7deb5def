"""Two exported windows become one valid Chrome trace with our facts in it, copied as bytes and never parsed as a whole.

Kineto's ids start again in each session, so those of the second window are shifted; both windows are put on one base time;
names that Kineto forgot to escape (torch 2.13 writes a bare quote, which no reader accepts) are repaired on the way.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

from msgspec import Struct, field

from mfu_doctor.units import NS_PER_US

# Room between the ids of the two windows. Ids count events, so they stay far below it, and the sum still fits 32 bits.
ID_SHIFT = 1 << 30

FACTS_LINE = b'"mfu_doctor": '
"""How the line with our facts begins."""

_CHUNK = 4 << 20  # bytes handled at a time
_HEAD = 16 << 20  # the head holds every process group of a job
_TAIL = 1 << 20
_GZIP_LEVEL = 1  # level 9 takes seven times as long for a third less (measured)
_EVENTS = b'"traceEvents":'
_BASE = re.compile(rb'"baseTimeNanoseconds"\s*:\s*(\d+)')
_NAME = re.compile(rb'^(\s*"name": ")(.*)(",?[ \t]*)$', re.MULTILINE)
_BARE_QUOTE = re.compile(rb'(?<!\\)"')
_ODD_NAME = re.compile(rb'^\s*"name": "[^"\\\n]*(?:\\.[^"\\\n]*)*"(?:[^,\n]|,[^\n])', re.MULTILINE)
_NO_NUMBER = re.compile(rb"(: )-?(?:inf|nan)(?=\s*[,}\n])")  # e.g. the bandwidth of a copy that took no time
_IDS = re.compile(
    rb'("(?:correlation|External id|external id|Ev Idx|Record function id|Python id|Python parent id|Python module id|'
    rb'wait_on_cuda_event_record_corr_id|id)": )(\d+)\b'
)
_TIME = re.compile(rb'("ts": )(\d+(?:\.\d+)?)')


class MergeError(Exception):
    """An exported window is not a whole file (the disk was full, or the export failed)."""


class Export(Struct, frozen=True):
    """One exported window.

    Attributes:
        path: Kineto's JSON, uncompressed.
        stumps: numbers of steps whose mark was opened but that never were steps.
    """

    path: Path
    stumps: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise `MergeError` (or `OSError`) unless the file is whole."""
        _split(self.path)


class _Parts(Struct):
    """Where the pieces of an exported file lie."""

    head: bytes  # from the brace to the events
    start: int  # offset of the first event
    end: int  # offset behind the last event
    tail: bytes  # between the closing bracket and the closing brace
    keys: dict[str, Any] = field(default_factory=dict)


def merge(exports: list[Export], target: IO[bytes], facts: bytes, *, name: str) -> None:
    """Write one Chrome trace from one or two exported windows (none: a trace without events), gzipped unless named `.json`.

    Args:
        exports: the timing window first.
        target: binary file to write to.
        facts: JSON of `Facts`, written under the key `mfu_doctor`.
        name: the file's name, also the value of `traceName`; readers that go by the suffix expect plain text behind `.json`.

    Raises:
        MergeError: an export is incomplete.
        OSError: reading or writing failed.
    """
    parts = [_split(export.path) for export in exports]
    keys = {key: value for part in reversed(parts) for key, value in part.keys.items()}
    keys.setdefault("schemaVersion", 1)
    keys["traceName"] = name
    base = keys.get("baseTimeNanoseconds")
    with nullcontext(target) if name.endswith(".json") else zipped(target) as out:
        head = json.dumps(keys).encode()
        out.write(head[:-1] + b",\n" + FACTS_LINE + facts + b',\n"traceEvents": [\n')
        for number, (export, part) in enumerate(zip(exports, parts, strict=True)):
            late = part.keys.get("baseTimeNanoseconds", base)
            change = _change(export, shifted=number > 0, late_ns=(late or 0) - (base or 0))
            if number:
                out.write(b",\n")
            for chunk in _chunks(export.path, part.start, part.end):
                out.write(change(chunk))
        out.write(b"\n]}\n")


def zipped(target: IO[bytes]) -> gzip.GzipFile:
    """A file to write plain bytes to, which packs them into the target."""
    return gzip.GzipFile(fileobj=target, mode="wb", compresslevel=_GZIP_LEVEL, filename="", mtime=0)


def _split(path: Path) -> _Parts:
    """Find the events of an exported file; only its head and its last kilobytes are looked at."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        at = head.find(_EVENTS)
        bracket = head.find(b"[", at)
        tail_at = max(bracket, size - _TAIL)
        file.seek(max(tail_at, 0))
        tail = file.read()
    close = tail.rfind(b"]", 0, tail.rfind(b'"traceName"'))
    if at < 0 or bracket < 0 or close < 0 or not tail.rstrip().endswith(b"}"):
        raise MergeError("the exported trace is incomplete")
    end = tail_at + close
    parts = _Parts(head[:at], bracket + 1, end, tail[close + 1 :])
    parts.keys = _keys(parts)
    return parts


def _keys(parts: _Parts) -> dict[str, Any]:
    """The metadata around the events; at least the base time when the rest cannot be read."""
    keys: dict[str, Any] = {}
    for text in (parts.head.rstrip().rstrip(b",") + b"}", b"{" + parts.tail.strip().lstrip(b",")):
        try:
            keys |= json.loads(text.decode(errors="replace"), strict=False)
        except ValueError:
            found = _BASE.search(text)
            if found:
                keys["baseTimeNanoseconds"] = int(found[1])
    return keys


def _chunks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of the events, in pieces that end at the end of a line."""
    with path.open("rb") as file:
        file.seek(start)
        left, rest = end - start, b""
        while left:
            read = file.read(min(_CHUNK, left))
            if not read:
                raise MergeError("the exported trace ends early")
            left -= len(read)
            piece = rest + read
            cut = piece.rfind(b"\n") + 1 if left else len(piece)
            rest = piece[cut:]
            yield piece[:cut]


def _change(export: Export, *, shifted: bool, late_ns: int) -> Callable[[bytes], bytes]:
    stumps = tuple(b'"ProfilerStep#%d"' % number for number in export.stumps)

    def change(chunk: bytes) -> bytes:
        if _ODD_NAME.search(chunk):
            chunk = _NAME.sub(_escape, chunk)
        chunk = _NO_NUMBER.sub(rb"\1null", chunk)
        for stump in stumps:
            chunk = chunk.replace(stump, b'"mfu_doctor.unfinished_step"')
        if shifted:
            chunk = _IDS.sub(_shift, chunk)
        if late_ns:
            chunk = _TIME.sub(lambda found: found[1] + b"%.3f" % (float(found[2]) + late_ns / NS_PER_US), chunk)
        return chunk

    return change


def _escape(found: re.Match[bytes]) -> bytes:
    try:  # torch before 2.13 writes several keys on a line: what is JSON already needs no repair
        json.loads(b"{" + found[0].strip().rstrip(b",") + b"}")
    except ValueError:
        pass
    else:
        return found[0]
    return found[1] + _BARE_QUOTE.sub(rb"\"", found[2]) + found[3]


def _shift(found: re.Match[bytes]) -> bytes:
    number = int(found[2])  # 0 means "none", except for the ids of flows
    none = number == 0 and found[1] != b'"id": '
    return found[1] + (found[2] if none or number >= ID_SHIFT else b"%d" % (number + ID_SHIFT))
