"""Chunks read by the compiled core: records without an object for each event.

It gives up a chunk that is in any way unusual. Then the decoder reads it, and only that one knows what is damage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.compiled import SCAN, core
from mfu_doctor.reading.clock import LONGEST_US, MAX_US, MIN_US, Clock
from mfu_doctor.reading.codes import KINDS
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.memory import MEMORY, MemoryTable
from mfu_doctor.reading.partial_decode import decoded
from mfu_doctor.reading.schema import FAILURES, MEMORY_EVENTS, OTHER_PHASES
from mfu_doctor.reading.tracks import MOST_DEVICES
from mfu_doctor.reading.values import KNOWN, ArgsTable

_TEXT = msgspec.json.Decoder(str)


class Scanned(Struct, frozen=True):
    """The events of a chunk.

    Attributes:
        chunk: the chunk.
        records: its duration events, a row of numbers each; they hold until the next chunk is scanned.
        begin, end: where each of them begins and ends in the chunk.
        arguments: where its arguments begin, -1 if it has none.
        moments: the instants of the allocator, see `MemoryTable.add_moments`.
    """

    chunk: bytes
    records: npt.NDArray[np.float64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    arguments: npt.NDArray[np.int64]
    moments: npt.NDArray[np.float64]


class Scanner:
    """Scans the chunks of one file, and adds what they hold to its tables.

    Args:
        columns, args, memory: the tables.
        clock: has read the file's first events.
    """

    def __init__(self, columns: Columns, args: ArgsTable, memory: MemoryTable, clock: Clock) -> None:
        self._columns, self._memory, self._clock = columns, memory, clock
        compiled = core(SCAN)
        self._core: Any = None
        if compiled is None:
            return
        asked = (_of_text(number) for number in (columns.name_code, columns.category_code, columns.tracks.code))
        leading = clock.digit_for if clock.decimal_epoch else None
        named = msgspec.json.encode(MEMORY)
        self._core = compiled.Scanner(*asked, args.index, KNOWN, OTHER_PHASES.encode(), named, leading)
        self._filler = compiled.Filler(columns.tracks.track, KINDS, MAX_US, MIN_US, LONGEST_US, MOST_DEVICES)
        self._record = np.dtype([(name, np.float64) for name in compiled.FIELD_NAMES])

    def scan(self, chunk: bytes) -> Scanned | None:
        """The events of a chunk; None if the decoder is to read it."""
        found = self._core.scan(chunk) if self._core is not None else None
        if found is None:
            return None
        records, places, moments = found
        begin, end, arguments = places.T
        return Scanned(chunk, records, begin, end, arguments, moments)

    def add(self, scanned: Scanned) -> None:
        """Add the events of a chunk to the tables."""
        if len(scanned.moments):
            self._memory.add_moments(scanned.moments)
        if not len(scanned.records):
            return
        added = self._columns.fill(scanned.records, self._filler)
        if added is None:
            added = self._columns.add_records(scanned.records.view(self._record).reshape(-1))
        if len(added.kept):
            codes = self._core.argument_codes(scanned.chunk, scanned.arguments[added.kept])
            self._columns.set_args(added.rows, codes)
        if len(added.memory):
            spans = zip(scanned.begin[added.memory].tolist(), scanned.end[added.memory].tolist(), strict=True)
            written = (self._clock.shorten(scanned.chunk[begin:end]) for begin, end in spans)
            self._memory.add(decoded(text, MEMORY_EVENTS) for text in written)


def _of_text(number: Callable[[str], float]) -> Callable[[bytes], float | None]:
    """The number of a text as a file writes it, None if that is no sound text."""

    def asked(written: bytes) -> float | None:
        try:
            return number(_TEXT.decode(written))
        except FAILURES:
            return None

    return asked
