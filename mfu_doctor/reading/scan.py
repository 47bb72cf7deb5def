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
from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.partial_decode import decoded
from mfu_doctor.reading.schema import FAILURES, MEMORY_EVENTS, OTHER_PHASES, Instant, MemoryEvent
from mfu_doctor.reading.values import KNOWN, ArgsTable

_INSTANT = msgspec.json.Decoder(Instant)
_TEXT = msgspec.json.Decoder(str)


class Scanned(Struct, frozen=True):
    """The events of a chunk.

    Attributes:
        chunk: the chunk.
        clock: of the file: times of its events may need to be shortened before they are decoded.
        records: its duration events, as `schema.encode` makes them; they hold until the next chunk is scanned.
        begin, end: where each of them begins and ends in the chunk.
        arguments: where its arguments begin, -1 if it has none.
        instants: its instant events.
    """

    chunk: bytes
    clock: Clock
    records: npt.NDArray[np.void]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    arguments: npt.NDArray[np.int64]
    instants: list[Instant]

    def memory_events(self, positions: npt.NDArray[np.int64]) -> list[MemoryEvent]:
        """The duration events at these positions as what the allocator says."""
        spans = zip(self.begin[positions].tolist(), self.end[positions].tolist(), strict=True)
        return [decoded(self.clock.shorten(self.chunk[begin:end]), MEMORY_EVENTS) for begin, end in spans]


class Scanner:
    """Scans the chunks of one file.

    Args:
        columns: has the numbers of its names, categories and identities.
        args: has those of its arguments.
        clock: has read the file's first events.
    """

    def __init__(self, columns: Columns, args: ArgsTable, clock: Clock) -> None:
        self._clock = clock
        compiled = core(SCAN)
        self._core: Any = None
        if compiled is None:
            return
        asked = (_of_text(number) for number in (columns.name_code, columns.category_code, columns.tracks.code))
        leading = clock.digit_for if clock.decimal_epoch else None
        self._core = compiled.Scanner(*asked, args.index, KNOWN, OTHER_PHASES.encode(), leading)
        self._record = np.dtype([(name, np.float64) for name in compiled.FIELD_NAMES])

    def scan(self, chunk: bytes) -> Scanned | None:
        """The events of a chunk; None if the decoder is to read it."""
        found = self._core.scan(chunk) if self._core is not None else None
        if found is None:
            return None
        records, places, instants = found
        try:
            points = [_INSTANT.decode(self._clock.shorten(chunk[begin:end])) for begin, end in instants]
        except FAILURES:
            return None
        begin, end, arguments = places.T
        return Scanned(
            chunk, self._clock, records.view(self._record).reshape(len(records)), begin, end, arguments, points
        )

    def argument_codes(self, scanned: Scanned, positions: npt.NDArray[np.int64]) -> list[int]:
        """As `ArgsTable.codes`, of the duration events at these positions."""
        codes: list[int] = self._core.argument_codes(scanned.chunk, scanned.arguments[positions])
        return codes


def _of_text(number: Callable[[str], float]) -> Callable[[bytes], float | None]:
    """The number of a text as a file writes it, None if that is no sound text."""

    def asked(written: bytes) -> float | None:
        try:
            return number(_TEXT.decode(written))
        except FAILURES:
            return None

    return asked
