"""Feeds the chunks of a file into the tables: decode, mend where that fails, append, and look twice at what is kept.

The first look reads only what every event has. The arguments that matter belong to a few events in a hundred: those are
picked out of the chunk by position and decoded again.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from mfu_doctor.reading.chunks import EventChunks
from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.header import KNOWN_KEYS
from mfu_doctor.reading.memory import MemoryTable
from mfu_doctor.reading.pairs import PairTable
from mfu_doctor.reading.salvage import FAILURES, Damage, is_event, mend, split_events
from mfu_doctor.reading.schema import EVENTS, MEMORY_EVENTS, Begin, Complete, End, Instant
from mfu_doctor.reading.source import Source
from mfu_doctor.reading.values import ARGUMENTS, ArgsTable

_MAYBE_END = re.compile(rb"[}\[]\s*\]")
# Keys that follow the events somewhere; a list inside an event is not followed by one of these.
_AFTER = "|".join((*KNOWN_KEYS, "traceName", "displayTimeUnit", "schemaVersion", "trace_id", "host_name"))
_END_BEFORE_KEY = re.compile(rf'\}}\s*,?\s*\](?=\s*,\s*"(?:{_AFTER})"\s*:)'.encode())
_END_OF_FILE = re.compile(rb"\}\s*,?\s*\](?=\s*\}?[\s\0]*\Z)")


class Parser:
    """Everything that the list of events of one file says.

    Attributes:
        tail: what follows the list in the file; None where the file ends before it.
        cut_event: whether the file ends inside an event.
    """

    def __init__(self, source: Source) -> None:
        self.clock = Clock()
        self.chunks = EventChunks(source)
        self.columns = Columns(source.expected_size, self.clock)
        self.args = ArgsTable()
        self.memory = MemoryTable(self.clock)
        self.pairs = PairTable(self.clock)
        self.damage = Damage()
        self.tail: bytes | None = None
        self.cut_event = False

    def run(self) -> None:
        """Read the whole file."""
        for i, chunk in enumerate(self.chunks):
            if i == 0:
                self.clock.look(chunk)
            events, mended = self._decode(self.clock.shorten(chunk))
            self._add(events, mended)

    def _decode(self, chunk: bytes) -> tuple[list[Any], bytes]:
        """The events of a chunk, and the chunk as it was decoded."""
        try:
            events = EVENTS.decode(chunk)
        except FAILURES:
            return self._decode_end(chunk)
        if self.chunks.is_last:
            self.tail = b""
        return events, chunk

    def _decode_end(self, chunk: bytes) -> tuple[list[Any], bytes]:
        """A chunk that does not parse holds the end of the list, or damage, or both."""
        for match in _MAYBE_END.finditer(chunk):
            try:
                events = EVENTS.decode(chunk[: match.end()])
            except FAILURES:
                continue
            self.tail = self.chunks.end(chunk[match.end() :])
            return events, chunk[: match.end()]
        end = _END_BEFORE_KEY.search(chunk) or (_END_OF_FILE.search(chunk) if self.chunks.is_last else None)
        if end is not None:
            self.tail = self.chunks.end(chunk[end.end() :])
            chunk = chunk[: end.end()]
        pieces = split_events(chunk)
        if self.chunks.is_last and self.tail is None and pieces and not is_event(pieces[-1]):
            self.cut_event = True
            pieces.pop()
        mended = mend(pieces, self.damage)
        return EVENTS.decode(mended), mended

    def _add(self, events: list[Any], chunk: bytes) -> None:
        complete = [event for event in events if type(event) is Complete]
        if len(complete) < len(events):
            self.memory.add(event for event in events if type(event) is Instant)
            halves = [event for event in events if type(event) is Begin or type(event) is End]
            if halves and (paired := self.pairs.match(halves)):
                self.columns.add(paired)
        if not complete:
            return
        added = self.columns.add(complete)
        if not len(added.kept) and not len(added.memory):
            return
        places = np.arange(len(events))
        if len(complete) < len(events):
            places = np.flatnonzero(np.fromiter((type(event) is Complete for event in events), np.bool_, len(events)))
        parts = _parts(chunk, self.chunks.separator, len(events))
        if len(added.kept):
            kept = ARGUMENTS.decode(_pick(parts, chunk, places[added.kept]))
            picked = kept if parts else [kept[i] for i in places[added.kept].tolist()]
            self.columns.set_args(added.rows, self.args.codes(picked))
        if len(added.memory):
            samples = MEMORY_EVENTS.decode(_pick(parts, chunk, places[added.memory]))
            self.memory.add(samples if parts else [samples[i] for i in places[added.memory].tolist()])


def _parts(chunk: bytes, separator: bytes, count: int) -> list[bytes]:
    """The events of a chunk without their outer braces; nothing where the separator does not tell them apart."""
    parts = chunk[chunk.index(b"{") + 1 : chunk.rindex(b"}")].split(separator)
    return parts if len(parts) == count else []


def _pick(parts: list[bytes], chunk: bytes, places: npt.NDArray[np.int64]) -> bytes:
    """A JSON list of only these events; the whole chunk where it could not be told apart."""
    if not parts:
        return chunk
    return b"[{" + b"},{".join([parts[i] for i in places.tolist()]) + b"}]"
