"""Decompresses gzip as far as possible: if a crash or a full disk cut the file, only its end is lost.

`isal` (the extra `fast`) inflates about four times as fast as zlib and is used if it is installed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

MAGIC = b"\x1f\x8b"
_WINDOW = 31  # zlib's wbits for "gzip header, largest window"


def _library() -> ModuleType:
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return zlib


_LIBRARY = _library()
_ERRORS = (zlib.error, _LIBRARY.error)


class GzipStream:
    """Plain bytes of a gzip stream.

    Args:
        first: the bytes read so far.
        take: reads more; returns nothing at the end.
        size: plain bytes to return at most per read.
    """

    def __init__(self, first: bytes, take: Callable[[], bytes], *, size: int) -> None:
        self.truncated = False
        self._pending = first
        self._take = take
        self._size = size
        self._member: Any = _LIBRARY.decompressobj(_WINDOW)
        self._ended = False

    def read(self) -> bytes:
        """The next plain bytes; nothing at the end, or from where the stream is damaged."""
        while not self._ended:
            self._pending = self._pending or self._take()
            if not self._pending:
                self.truncated = self._ended = True
            elif out := self._inflate():
                return out
        return b""

    def _inflate(self) -> bytes:
        try:
            out: bytes = self._member.decompress(self._pending, self._size)
        except _ERRORS:
            self.truncated = self._ended = True
            return b""
        if not self._member.eof:
            self._pending = self._member.unconsumed_tail
            return out
        self._pending = self._member.unused_data or self._take()
        if len(self._pending) < len(MAGIC):  # the block ended inside the next stream's first bytes
            self._pending += self._take()
        if self._pending.startswith(MAGIC):  # gzip streams may be chained
            self._member = _LIBRARY.decompressobj(_WINDOW)
        else:
            self._ended = True
        return out
