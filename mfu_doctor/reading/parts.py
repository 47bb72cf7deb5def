"""Reads a large file with several threads: each takes a part of it, and the parts become one table.

Parsing is most of the time of a report, and one thread uses only one core. The compiled core does it without the lock of the
interpreter; Python alone would gain nothing. If a part is damaged, the first thread reads it itself, so that the damage is
handled with everything before it known, as in one pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from threading import Event, Thread

from msgspec import Struct

from mfu_doctor.compiled import SCAN, core
from mfu_doctor.errors import DoctorError
from mfu_doctor.reading.parser import Parser, PartOf
from mfu_doctor.reading.source import Source

SMALLEST = 4 << 20  # bytes of a part: what is smaller is read sooner than a thread has begun
MOST_PARTS = 4  # the last ones of a gzip file are inflated from its beginning: more would do that again and no sooner


class Part(Struct, frozen=True):
    """What the events of a part of a file say.

    Attributes:
        start: byte of the plain file at which the part begins.
        end: the same at which it ends.
        parser: has read it.
    """

    start: int
    end: int
    parser: Parser


def read_in_parts(
    parser: Parser, source: Source, path: str | os.PathLike[str], threads: int, *, smallest: int = SMALLEST
) -> int:
    """Read a whole file, with so many threads at most.

    Args:
        parser: that of the file's beginning; holds everything in the end.
        source: what it reads.
        path: the file.
        threads: this one included.
        smallest: plain bytes of a part at least.

    Returns:
        How many parts other threads read.
    """
    parser.prepare()
    parts = threads if core(SCAN) is not None else 1
    limits = _limits(parser.chunks.position, source.plain_size or 0, parts, smallest)
    how = (parser.chunks.separator, parser.clock.decimal_epoch)
    ends = [*limits[1:], inf]
    with _readers(
        path, source, [(PartOf(a, *how), b) for a, b in zip(limits, ends[: len(limits)], strict=True)]
    ) as readers:
        parser.run(until=limits[0] if limits else inf)
        reached, absorbed = parser.chunks.position, 0
        for reader in readers:
            # where all before it is sound, a part begins where an event does
            part = reader.part() if parser.is_between and parser.is_sound else None
            if part is None or part.start != reached:
                break
            parser.absorb(part.parser)
            reached, absorbed = part.end, absorbed + 1
    if not parser.is_over:
        if reached > parser.chunks.position:
            parser.chunks.skip_to(reached)
        parser.run()
    return absorbed


def _limits(begin: int, size: int, parts: int, smallest: int) -> list[int]:
    """Bytes of the file after which parts other than the first begin."""
    parts = min(parts, MOST_PARTS, (size - begin) // smallest)
    return [begin + (size - begin) // parts * i for i in range(1, parts)]


@contextmanager
def _readers(
    path: str | os.PathLike[str], source: Source, parts: Sequence[tuple[PartOf, float]]
) -> Iterator[list[_Reader]]:
    """A thread for each of these parts; none outlives this."""
    unwanted = Event()
    readers = [_Reader(path, source.identity, part, until, unwanted) for part, until in parts]
    try:
        for reader in readers:
            reader.start()
        yield readers
    finally:
        unwanted.set()
        for reader in readers:
            reader.join()


class _Unwanted(Exception):  # noqa: N818 - no error: nobody takes what would be read
    """The thread that wanted the part goes on without it."""


class _Reader(Thread):
    """Reads one part."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: tuple[int, int, int, int],
        part: PartOf,
        until: float,
        unwanted: Event,
    ) -> None:
        super().__init__(name="mfu-doctor reading", daemon=True)
        self._path, self._identity, self._of, self._until, self._unwanted = path, identity, part, until, unwanted
        self._part: Part | None = None

    def part(self) -> Part | None:
        """The part, when it has been read; None if it is not sound. It is handed out once."""
        self.join()
        part, self._part = self._part, None
        return part

    def run(self) -> None:
        """Read it."""
        try:
            self._part = self._read()
        except (DoctorError, OSError, MemoryError, _Unwanted):
            self._part = None  # the thread that wanted it comes to that itself, and says so

    def _read(self) -> Part | None:
        with Source(self._path, self._go_on) as source:
            if source.identity != self._identity:
                return None
            parser = Parser(source, self._of)
            start = parser.chunks.position
            parser.run(until=self._until)
            is_whole = parser.tail is not None or parser.is_between
            if not parser.is_sound or source.truncated or not is_whole:
                return None
            return Part(start, parser.chunks.position, parser)

    def _go_on(self, _: float) -> None:
        if self._unwanted.is_set():
            raise _Unwanted
