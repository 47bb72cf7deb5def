"""Reads the chunks of a file into the tables: decode, repair if that fails, append, and decode some events a second time.

The first pass reads only the fields that every event has. Only a few percent of the events have arguments that are needed: these
events are found in the chunk by position and decoded again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import compress
from typing import Any

import numpy as np
from msgspec import Struct

from mfu_doctor.reading.chunks import EventChunks
from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.header import KNOWN_KEYS
from mfu_doctor.reading.memory import MemoryTable
from mfu_doctor.reading.pairs import PairTable
from mfu_doctor.reading.partial_decode import SecondLook
from mfu_doctor.reading.salvage import Damage, is_event, mend, split_events
from mfu_doctor.reading.scan import Scanned, Scanner
from mfu_doctor.reading.schema import EVENTS, FAILURES, LIST, MEMORY_EVENTS, Begin, Complete, End, Instant
from mfu_doctor.reading.source import BLOCK, Source
from mfu_doctor.reading.values import ARGUMENTS, ArgsTable

_ONE_VALUE = json.JSONDecoder(strict=False)
# A chunk that is cut inside an event is joined with the next ones up to this many bytes before it counts as damaged.
_LONGEST_HELD = 4 * BLOCK
# Keys that follow the events somewhere; a list inside an event is not followed by one of these.
_AFTER = "|".join((*KNOWN_KEYS, "traceName", "displayTimeUnit", "schemaVersion", "trace_id"))
_END_BEFORE_KEY = re.compile(rf'\}}[\s,]*+\](?=\s*+,\s*+"(?:{_AFTER})"\s*+:)'.encode())
_END_OF_FILE = re.compile(rb"\}[\s,]*+\](?=\s*+\}?+[\s\0]*+\Z)")


class PartOf(Struct, frozen=True):
    """Where in a file to begin, and how the file is written: what the one who reads its beginning knows.

    Attributes:
        after: byte of the plain file after which the first event begins.
        separator: what stands between two events.
        decimal_epoch: whether times are microseconds since 1970 with decimals.
    """

    after: int
    separator: bytes
    decimal_epoch: bool


class Parser:
    """Everything that the list of events of one file says.

    Args:
        source: the file.
        part: where to begin, if not at the beginning.

    Attributes:
        tail: what follows the list in the file; None if the file ends before it.
        cut_event: whether the file ends inside an event.
    """

    def __init__(self, source: Source, part: PartOf | None = None) -> None:
        self.clock = Clock(decimal_epoch=part.decimal_epoch) if part else Clock()
        self.chunks = EventChunks(source, (part.after, part.separator) if part else None)
        self.columns = Columns(source.expected_size, self.clock)
        self.args = ArgsTable()
        self.memory = MemoryTable(self.clock)
        self.pairs = PairTable(self.clock)
        self.damage = Damage()
        self.tail: bytes | None = None
        self.cut_event = False
        self._held = b""
        self._looked = part is not None

    @property
    def is_over(self) -> bool:
        """Whether the list of events has ended, or the file has."""
        return self.tail is not None or self.chunks.is_last

    @property
    def is_between(self) -> bool:
        """Whether everything so far was read to the end of an event, with more to come."""
        return not self._held and not self.is_over

    @property
    def is_sound(self) -> bool:
        """Whether what was read stands for itself: nothing damaged, nothing that begins or ends elsewhere."""
        mended = self.damage != Damage() or self.columns.refused
        return not (self._held or self.cut_event or self.pairs.seen or mended)

    def prepare(self) -> None:
        """Look at the first events, which show how this file is written; `run` does so unless that was done before."""
        if not self._looked:
            self.clock.look(self.chunks.prepare())
            self._looked = True

    def run(self, until: float = math.inf) -> None:
        """Read the file, up to the first event that begins after this byte; a second call goes on from there."""
        self.prepare()
        scanner = Scanner(self.columns, self.args, self.memory, self.clock)
        for events, chunk in self._batches(self.clock.shorten, until, scanner):
            if isinstance(events, Scanned):
                scanner.add(events)
            else:
                self._add(events, chunk)

    def absorb(self, later: Parser) -> None:
        """Append what another parser read of a later part of the file, where nothing is damaged; that one is then empty."""
        self.columns.extend(later.columns, self.args.extend(later.args))
        self.memory.extend(later.memory)
        self.tail = later.tail

    def lists(self) -> Iterator[bytes]:
        """The events as JSON lists that parse, mended if needed and otherwise byte for byte; the tables stay empty."""
        for _, chunk in self._batches(bytes, math.inf, None):
            yield chunk

    def _batches(
        self, prepare: Callable[[bytes], bytes], until: float, scanner: Scanner | None
    ) -> Iterator[tuple[list[Any] | Scanned, bytes]]:
        """Each chunk that parses, or was mended until it did, with its events; `prepare` changes a chunk before it is decoded."""
        self.prepare()
        for cut in self.chunks.until(until):
            chunk = self.chunks.join(self._held, cut) if self._held else cut
            scanned = scanner.scan(chunk) if scanner is not None else None
            if scanned is not None:
                self.tail = b"" if self.chunks.is_last else None
                self._held = b""
                yield scanned, chunk
                continue
            events, chunk = self._decode(prepare(chunk))
            may_go_on = not self.chunks.is_last and (len(chunk) < _LONGEST_HELD or self.chunks.position >= until)
            if events is None and may_go_on and _is_open(chunk):
                self._held = chunk  # the cut fell inside an event, between objects in its arguments
                continue
            if events is None:
                events, chunk = self._salvage(chunk)
            self._held = b""
            yield events, chunk

    def _decode(self, chunk: bytes) -> tuple[list[Any] | None, bytes]:
        """The events of a chunk, or None if it does not parse; and the chunk, without what follows the list."""
        events = _decoded(chunk)
        if events is not None:
            self.tail = b"" if self.chunks.is_last else None
            return events, chunk
        end = _end_of_list(chunk)
        if end is None:
            return None, chunk
        if end < len(chunk) or self.chunks.is_last:
            self.tail = self.chunks.end(chunk[end:])
            chunk = chunk[:end]
            events = _decoded(chunk)
        return (events, chunk) if events is not None else self._salvage(chunk)

    def _salvage(self, chunk: bytes) -> tuple[list[Any], bytes]:
        """The events of a damaged chunk that can be read or repaired."""
        if self.tail is None:
            end = _END_BEFORE_KEY.search(chunk) or (_END_OF_FILE.search(chunk) if self.chunks.is_last else None)
            if end is not None:
                self.tail = self.chunks.end(chunk[end.end() :])
                chunk = chunk[: end.end()]
        pieces = split_events(chunk, self.damage)
        if self.chunks.is_last and self.tail is None and pieces and not is_event(pieces[-1]):
            self.cut_event = True
            pieces.pop()
        mended = mend(pieces, self.damage)
        return EVENTS.decode(mended), mended

    def _add(self, events: list[Any], chunk: bytes) -> None:
        is_complete = [type(event) is Complete for event in events]
        complete = list(compress(events, is_complete))
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
        places = np.flatnonzero(is_complete)
        look = SecondLook.at(chunk, self.chunks.separator, complete=complete, places=places, count=len(events))
        if len(added.kept):
            self.columns.set_args(added.rows, self.args.codes(look.decode(added.kept, ARGUMENTS)))
        if len(added.memory):
            self.memory.add(look.decode(added.memory, MEMORY_EVENTS))


def _decoded(chunk: bytes) -> list[Any] | None:
    try:
        return EVENTS.decode(chunk)
    except FAILURES:
        return None


def _is_open(chunk: bytes) -> bool:
    """Whether a chunk that does not parse would be sound if it went on, rather than being damaged somewhere before."""
    text = chunk.decode("utf-8", "replace")
    try:
        json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (ValueError, RecursionError):  # a number with more digits than Python takes, or too deep: never one of ours
        return False
    return False


def _end_of_list(chunk: bytes) -> int | None:
    """Where the list that a chunk opens is closed, if it is and is sound JSON up to there."""
    try:
        _, end = _ONE_VALUE.raw_decode(chunk.decode("latin-1"))  # a character for each byte
        LIST.decode(chunk[:end])
    except (ValueError, *FAILURES):
        return None
    return end
