"""Reads a large file with several processes: each takes a part of it, and the parts become one table.

Parsing is most of the time of a report, and one process uses only one core. If a part is damaged, this process reads it itself,
so that the damage is handled with everything before it known, as in one pass.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.reading.columns import COLUMNS
from mfu_doctor.reading.parser import Parser, PartOf
from mfu_doctor.reading.source import Source
from mfu_doctor.trace import Track
from mfu_doctor.version import __version__

# A process takes about 0.15 s to start. Meanwhile this one reads so many plain bytes, and smaller parts are not worth it.
HEAD_START = 32 << 20
_PIPE = 1 << 20  # bytes; the kernel's usual 64 KiB would make the two processes take turns
# The other process may be another version of ours, if that comes first on its path.
_GREETING = f"mfu-doctor {__version__} {' '.join(COLUMNS)}\n".encode()
_LENGTH = 8  # bytes that state the length of what is written before the columns
MOST_PARTS = 4  # the last ones of a gzip file are inflated from its beginning: more would do that again and no sooner

_ROOT = Path(__file__).resolve().parents[2]
_CHILD = "import sys; sys.path.append(sys.argv[1]); from mfu_doctor.reading.parts import main; main()"


class Order(Struct, frozen=True):
    """What a process is to read."""

    by: int  # process that wants it
    path: bytes
    identity: tuple[int, int, int, int]  # see Source
    part: PartOf
    until: int | None  # byte of the plain file; None: to its end


class Part(Struct, frozen=True):
    """What the events of a part of a file say, but for their columns, which follow it.

    Attributes:
        start: byte of the plain file at which the part begins.
        end: the same at which it ends.
        count: events in its columns.
        names, tracks, args: what the codes in its columns stand for.
        spellings: of categories.
        memory: samples of the allocator.
        tail: what follows the list of events; None if that goes on.
    """

    start: int
    end: int
    count: int
    names: tuple[str, ...]
    tracks: tuple[Track, ...]
    args: tuple[tuple[bytes, ...], ...]
    spellings: tuple[str, ...]
    memory: bytes
    tail: bytes | None


def read_in_parts(
    parser: Parser, source: Source, path: str | os.PathLike[str], processes: int, *, head_start: int = HEAD_START
) -> int:
    """Read a whole file, with so many processes at most.

    Args:
        parser: that of the file's beginning; holds everything in the end.
        source: what it reads.
        path: the file.
        processes: this one included.
        head_start: plain bytes that this process reads until another has started; no part is smaller.

    Returns:
        How many parts other processes read.
    """
    parser.prepare()
    limits = _limits(parser.chunks.position, source.plain_size or 0, processes, head_start)
    if not limits or not sys.executable or getattr(sys, "frozen", False):  # a frozen program is no interpreter
        parser.run()
        return 0
    how = (parser.chunks.separator, parser.clock.decimal_epoch)
    ends = [*limits[1:], None]
    us, place = os.getpid(), os.fsencode(path)
    orders = [Order(us, place, source.identity, PartOf(a, *how), b) for a, b in zip(limits, ends, strict=True)]
    with _children(orders) as streams:
        parser.run(until=limits[0])
        reached, absorbed = parser.chunks.position, 0
        for stream in streams:
            # where all before it is sound, a part begins where an event does
            end = _absorb(parser, stream, reached) if parser.is_between and parser.is_sound else None
            if end is None:
                break
            reached, absorbed = end, absorbed + 1
    if not parser.is_over:
        if reached > parser.chunks.position:
            parser.chunks.skip_to(reached)
        parser.run()
    return absorbed


def _limits(begin: int, size: int, processes: int, head_start: int) -> list[int]:
    """Bytes of the file after which parts other than the first begin; the first is larger by what it is ahead."""
    parts = min(processes, MOST_PARTS, (size - begin) // (2 * head_start))
    share = (size - begin - head_start) // max(parts, 1)
    return [begin + head_start + share * i for i in range(1, parts)]


@contextmanager
def _children(orders: list[Order]) -> Iterator[list[BinaryIO]]:
    """A process for each order that one can be started for, and the streams that their parts come from; none outlives this."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):  # no more processes here: this one reads the rest
            started += map(_start, orders)
        yield [cast("BinaryIO", child.stdout) for child in started]
    finally:
        for child in started:
            child.kill()
            child.communicate()


def _start(order: Order) -> subprocess.Popen[bytes]:
    # -P: nothing that lies in the user's directory is imported
    flags = sys.flags
    asked = {"-I": flags.isolated, "-E": flags.ignore_environment, "-s": flags.no_user_site, "-S": flags.no_site}
    command = [
        sys.executable,
        "-P",
        *(flag for flag, given in asked.items() if given),
        "-c",
        _CHILD,
        str(_ROOT),
        msgspec.json.encode(order).decode(),
    ]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=_PIPE
    )


def _absorb(parser: Parser, stream: BinaryIO, start: int) -> int | None:
    """Append what another process read, if its part begins where this one ends; where that part ends in turn."""
    try:
        part = _received(stream)
        if part.start != start:
            return None
        columns = parser.columns
        codes = {
            "name": columns.name_codes(part.names),
            "track": columns.tracks.indices(part.tracks),
            "args": parser.args.indices(part.args),
        }
        columns.extend(part.count, lambda column: _fill(column, stream), codes)
    except (EOFError, msgspec.DecodeError):
        return None  # it found something to mend, or came to grief
    for spelled in part.spellings:
        columns.category_code(spelled)
    parser.memory.extend(part.memory)
    parser.tail = part.tail
    return part.end


def _received(stream: BinaryIO) -> Part:
    """What the other process found.

    Raises:
        EOFError: it found nothing sound, or something else than ours wrote to its standard output.
    """
    if stream.read(len(_GREETING)) != _GREETING:
        raise EOFError
    size = int.from_bytes(stream.read(_LENGTH), "little")
    return msgspec.msgpack.decode(stream.read(size), type=Part)


def _fill(column: npt.NDArray[Any], stream: BinaryIO) -> None:
    """The next column of a part.

    Raises:
        EOFError: the other process ended before it had written it.
    """
    if len(column) and cast("BufferedReader", stream).readinto(column.data.cast("B")) < column.nbytes:
        raise EOFError


class _Unwanted(Exception):  # noqa: N818 - no error: nobody reads what would be written
    """The process that wanted the part has ended."""


def main() -> None:
    """Read one part and write it to the standard output; write nothing where it is not sound.

    Raises:
        DoctorError: the part cannot be read. The process that wanted it will come to that itself, and say so.
    """
    gc.disable()  # see reader.py
    order = msgspec.json.decode(sys.argv[2], type=Order)
    with suppress(_Unwanted):
        _write_part(order, sys.stdout.buffer)


def _write_part(order: Order, out: BinaryIO) -> None:
    def go_on(_: float) -> None:
        if os.getppid() != order.by:
            raise _Unwanted

    with Source(os.fsdecode(order.path), go_on) as source:
        if source.identity != order.identity:
            return
        parser = Parser(source, order.part)
        start = parser.chunks.position
        parser.run(until=inf if order.until is None else order.until)
        is_closed = parser.tail is not None
        if not parser.is_sound or source.truncated or not (is_closed or parser.is_between):
            return
        columns = parser.columns
        part = Part(
            start=start,
            end=parser.chunks.position,
            count=columns.count,
            names=columns.names,
            tracks=columns.tracks.tracks(),
            args=parser.args.keys,
            spellings=columns.spellings,
            memory=parser.memory.to_bytes(),
            tail=parser.tail,
        )
        head = msgspec.msgpack.encode(part)
        out.write(_GREETING + len(head).to_bytes(_LENGTH, "little") + head)
        out.writelines(columns.take(name).data.cast("B") for name in COLUMNS if part.count)
