"""Bytes of a trace, whatever they come from: a file, a stream, a store; gzip is known by its first bytes, not by its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mfu_doctor.errors import NotATraceError
from mfu_doctor.facts import PARTIAL
from mfu_doctor.files import possible
from mfu_doctor.reading.gunzip import MAGIC, GzipStream
from mfu_doctor.reading.remote import is_address, open_remote

BLOCK = 1 << 18  # bytes: events of one block stay in the processor's second-level cache, 1.3x faster than 8 MiB blocks

# Traces shrink 11 to 30 times. What grows more than this, past the size below, is a decompression bomb or not a trace.
MAX_EXPANSION = 200
_BOMB_CHECK_FROM = 256 << 20  # bytes

# Plain size to expect if it is not known: so many times the gzip file's size, or this many bytes for a stream.
TYPICAL_EXPANSION = 16
_UNKNOWN_SIZE = 64 << 20
_SIZE_BYTES = 4  # a gzip member ends with its plain size, RFC 1952 section 2.3.1


class Source:
    """Plain bytes of a trace, read once from front to back.

    Args:
        where: a path, the address of a file in a store, or an open binary stream.
        progress: called with the fraction of the input that has been read, 0 to 1, if its size is known.
        max_expansion: how many times its own size a gzip file may grow.

    Raises:
        NotATraceError: the file does not exist or cannot be read.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | BinaryIO,
        progress: Callable[[float], None] | None = None,
        *,
        max_expansion: float = MAX_EXPANSION,
    ) -> None:
        self._owned = isinstance(where, (str, os.PathLike))
        self._is_file = self._owned and not is_address(where)
        self._stream, self.label, self._size = _open(where)
        self._progress = progress
        self._max_expansion = max_expansion
        self._taken = 0  # bytes of the input
        self.given = 0  # plain bytes handed out
        self.begins = b""  # the first of them, which tell what a file is
        try:
            first = self._take()
        except BaseException:  # of whoever is told of the progress
            self.__exit__()
            raise
        self._gzip = GzipStream(first, self._take, size=BLOCK) if first.startswith(MAGIC) else None
        self._pending = first

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        if self._owned:
            self._stream.close()

    @property
    def truncated(self) -> bool:
        """Whether the input is gzip and ends, or is damaged, before its end."""
        return self._gzip is not None and self._gzip.truncated

    @property
    def expected_size(self) -> int:
        """Plain bytes to expect; an estimate for gzip and streams."""
        size = self._size or _UNKNOWN_SIZE
        return size if self._gzip is None else size * TYPICAL_EXPANSION

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What distinguishes this file from another of the same name: device, inode, size, and when it was written."""
        found = os.fstat(self._stream.fileno())
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def plain_size(self) -> int | None:
        """Plain bytes of a file: what its length or the end of its gzip stream says; None for other streams."""
        if not self._is_file or not self._size:
            return None
        if self._gzip is None:
            return self._size
        try:
            with Path(self._stream.name).open("rb") as file:
                file.seek(-_SIZE_BYTES, os.SEEK_END)
                stated = int.from_bytes(file.read(_SIZE_BYTES), "little")
        except OSError:  # it was moved meanwhile
            return None
        return stated if stated >= self._size else self.expected_size  # of several members, or of more than 4 GiB

    def read(self) -> bytes:
        """The next stretch of plain bytes; nothing at the end."""
        if self._gzip is None:
            data, self._pending = self._pending or self._take(), b""
        else:
            data = self._gzip.read()
        self.begins = self.begins or data
        self.given += len(data)
        if self._gzip is not None and self.given > max(_BOMB_CHECK_FROM, self._taken * self._max_expansion):
            raise NotATraceError(
                f"{self.label} expands more than {self._max_expansion:g} times when it is decompressed",
                "if you trust the file, decompress it with gunzip and pass the .json file",
            )
        return data

    def skip_to(self, position: int) -> bytes:
        """Go on at a byte of the plain text that was not handed out yet; the bytes after it that had to be read already."""
        if self._gzip is None:
            self._pending = b""
            self._stream.seek(position)
            self.given = self._taken = position
            return b""
        data = b""
        while self.given < position and (data := self.read()):
            pass
        return data[len(data) - (self.given - position) :] if self.given > position else b""

    def _take(self) -> bytes:
        data = self._stream.read(BLOCK)
        self._taken += len(data)
        if self._progress is not None and self._size:
            self._progress(min(1.0, self._taken / self._size))
        return data


def _open(where: str | os.PathLike[str] | BinaryIO) -> tuple[BinaryIO, str, int]:
    """The stream, a name to show, and its size in bytes (0: unknown)."""
    if not isinstance(where, (str, os.PathLike)):
        name = getattr(where, "name", None)
        return where, Path(name).name if isinstance(name, str) else "stream", 0
    if is_address(where):
        stream, size = open_remote(str(where))
        return stream, str(where).rpartition("/")[2], size
    path = Path(where)
    if path.is_dir():
        raise NotATraceError(f"{path} is a directory", "pass one file of it")
    try:
        return possible(path).open("rb", buffering=0), path.name, path.stat().st_size
    except FileNotFoundError:
        partial = path.with_name(path.name + PARTIAL)
        remedy = f"read {partial}, which says how far its recording came" if partial.is_file() else "check the path"
        raise NotATraceError(f"{path} does not exist", remedy) from None
    except OSError as error:
        raise NotATraceError(
            f"{path} cannot be read ({error.strerror})", "check the path and its permissions"
        ) from error
