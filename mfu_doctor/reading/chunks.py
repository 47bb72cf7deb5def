"""Cuts the list of events of a trace into small JSON lists, wherever in the file that list is.

A cut is made at the exact bytes that separate two events in this file, from a brace to the quote of the next event's first
key. Inside a JSON string that quote would be escaped, so a cut is safe in every layout, down to a file of one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading.other_files import BLANK, EXPORT, not_a_trace
from mfu_doctor.reading.source import BLOCK, Source

_LIST = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb'\}\s*+,\s*+\{\s*+"')
_DEFAULT_SEPARATOR = b'},{"'
_MAX_HEADER = 512 << 20  # bytes; the largest thing before the events is our own samples, a few megabytes
_TRIES = 100  # places where the first event may end, before the separator is left as it is
_STALE_SEPARATOR = 8 * BLOCK  # bytes without the separator: this part of the file is laid out differently
_LONGEST_EVENT = 32 << 20  # bytes: what goes on without an event longer than this is not read to its end


class EventChunks:
    """The events of a file as JSON lists of about one block each; the last one is open and runs to the end of the file.

    Attributes:
        head: the file up to and with the bracket that opens the list; empty if the file is a bare list.
        is_bare: whether the file is a bare list of events.
        is_last: whether the chunk handed out last is the last one.
        separator: what stands between two events, from the brace of one to the first quote of the next.

    Args:
        source: the file.
        after: begin in the middle of the file, at the first event after this byte; the separator to tell it by.

    Raises:
        NotATraceError: there is no list of events, or no event after that byte.
    """

    def __init__(self, source: Source, after: tuple[int, bytes] | None = None) -> None:
        self._source = source
        self.head: bytes
        self._rest: bytes | bytearray
        self.head, self._rest = _find_list(source) if after is None else (b"", _find_event(source, *after))
        self._stale_at = _STALE_SEPARATOR
        self.is_bare = after is None and not self.head
        self.is_last = False
        self.separator = _DEFAULT_SEPARATOR

    @property
    def position(self) -> int:
        """Plain bytes of the file before what is handed out next."""
        return self._source.given - len(self._rest)

    def prepare(self) -> bytes:
        """Read a block ahead if that was not done, and find the separator in it; what was read."""
        while len(self._rest) < BLOCK and (block := self._source.read()):
            self._rest += block
        self._find_separator()
        return bytes(self._rest)

    def skip_to(self, position: int) -> None:
        """Leave out what lies before this byte, where an event begins."""
        self._rest = self._source.skip_to(position)

    def until(self, limit: float) -> Iterator[bytes]:
        """The chunks up to the first cut at or after this byte; a second call goes on from there."""
        self.prepare()
        cut = self._rest.rfind(self.separator)
        if cut >= 0:
            yield self._cut_rest(cut)
        while not self.is_last and len(self._rest) <= _LONGEST_EVENT and (block := self._source.read()):
            if self._source.given > limit and (cut := self._first_cut(block, limit)) >= 0:
                self._rest += block
                yield self._cut_rest(cut)
                return
            cut = block.rfind(self.separator)
            if cut >= 0:
                chunk = b"".join((b"[", self._rest, memoryview(block)[: cut + 1], b"]"))
                self._rest = block[cut + self._gap :]
                yield chunk
                continue
            cut = self._find_at_seam(block)
            if cut >= 0:
                yield self._cut_rest(cut)
        if not self.is_last:
            self.is_last = True
            yield b"[" + self._rest

    def join(self, chunk: bytes, following: bytes) -> bytes:
        """Two neighbouring chunks as one."""
        return chunk[:-1] + self.separator[1 : self._gap] + following[1:]

    def end(self, after: bytes) -> bytes:
        """Stop, because the list ended inside the last chunk.

        Args:
            after: what followed the closing bracket in that chunk.

        Returns:
            What follows the list in the file.
        """
        if self.is_last:
            return after
        # The chunk was closed by a bracket of ours, and the rest lost what stood between it and the chunk.
        parts = [after[:-1], self.separator[1 : self._gap], self._rest]
        while block := self._source.read():
            parts.append(block)
        self.is_last, self._rest = True, b""
        return b"".join(parts)

    @property
    def _gap(self) -> int:
        """Bytes from the end of an event, its brace included, to the brace of the next."""
        return self.separator.index(b"{")

    def _first_cut(self, block: bytes, limit: float) -> int:
        """Where the rest and the block after it can be cut first at or after a byte of the file; -1 if not in this block."""
        seam = bytes(self._rest[-(len(self.separator) - 1) :])  # a separator may begin in it
        begin = self._source.given - len(block) - len(seam)
        found = (seam + block).find(self.separator, max(int(limit) - begin, 0))
        return found if found < 0 else len(self._rest) - len(seam) + found

    def _cut_rest(self, cut: int) -> bytes:
        chunk = b"".join((b"[", self._rest[: cut + 1], b"]"))
        self._rest = self._rest[cut + self._gap :]
        return chunk

    def _find_at_seam(self, block: bytes) -> int:
        """Add a block without a separator to the rest; where the rest can be cut now, -1 if nowhere."""
        seam = max(0, len(self._rest) - len(self.separator))
        if not isinstance(self._rest, bytearray):
            self._rest = bytearray(self._rest)  # grows without being copied each time
            self._stale_at = _STALE_SEPARATOR
        self._rest += block
        if len(self._rest) > self._stale_at:
            self._find_separator()
            self._stale_at, seam = 2 * len(self._rest), 0
        return self._rest.rfind(self.separator, seam)

    def _find_separator(self) -> None:
        """Take the separator from after the first event, where a cut leaves an event that is whole."""
        for match in islice(_BETWEEN.finditer(self._rest), _TRIES):
            try:
                json.loads(self._rest[: match.start() + 1], strict=False)
            except (ValueError, RecursionError):
                continue
            self.separator = match.group()
            return


def _find_event(source: Source, position: int, separator: bytes) -> bytes:
    """The bytes from the first event that begins after this byte of the file to the end of the block that it begins in."""
    data = bytearray(source.skip_to(position))
    searched = 0
    while (found := data.find(separator, searched)) < 0:
        searched = max(0, len(data) - len(separator))
        block = source.read()
        if not block or len(data) > _STALE_SEPARATOR:
            raise NotATraceError(f"{source.label} has no event after byte {position:,}", EXPORT)
        data += block
    return bytes(data[found + separator.index(b"{") :])


def _find_list(source: Source) -> tuple[bytes, bytes]:
    """The bytes up to the bracket that opens the list of events, and those after it in the last block read."""
    data = source.read()
    while data and not data.strip():
        data = source.read()
    start = data.lstrip(BLANK)
    if start.startswith(b"["):
        return b"", start[1:]
    if not start.startswith(b"{"):
        raise not_a_trace(source.label, data)
    searched = 0
    head = bytearray(start)
    while (match := _LIST.search(head, searched)) is None:
        searched = max(0, len(head) - BLOCK // 2)
        block = source.read()
        if not block or len(head) > _MAX_HEADER:
            raise not_a_trace(source.label, data)
        head += block
    return bytes(head[: match.end()]), bytes(head[match.end() :])
