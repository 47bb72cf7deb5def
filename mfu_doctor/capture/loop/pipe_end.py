"""The ends of a pipe of ours in a process of the program's: no file of the program's is read, written or closed in their place.

A program may close every descriptor that it knows of, or does not (to become a daemon, in a worker that begins): the number of
one of ours is then free, and the next file that the program opens has it. So an end is known again by what it is.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from multiprocessing.reduction import DupFd
from typing import Any, Self


class PipeEnd:
    """One end of a pipe.

    Args:
        number: its descriptor, which never blocks from now on; None: it is closed already.
    """

    def __init__(self, number: int | None) -> None:
        self._held: list[int] = []
        self._is: tuple[int, int] | None = None
        if number is not None:
            os.set_blocking(number, False)
            self._held, self._is = [number], _what(number)

    @property
    def number(self) -> int:
        """Its descriptor.

        Raises:
            OSError: it is closed, or the program has closed it, and the number may be that of another file.
        """
        number = self._number
        if number is None:
            raise OSError(errno.EBADF, "the pipe is closed")
        return number

    @property
    def closed(self) -> bool:
        """Whether it is closed, by us or by the program."""
        return self._number is None

    @property
    def _number(self) -> int | None:
        held = self._held[:1]
        return held[0] if held and _what(held[0]) == self._is else None

    def close(self) -> None:
        """Close it, if it is open and ours; safe to call twice, and in two threads at once."""
        try:
            number = self._held.pop()
        except IndexError:
            return
        if _what(number) == self._is:
            os.close(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(OSError):  # nobody could catch it, and Python would print it
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """For a process that is being started: it gets a descriptor of its own, and a closed end if that cannot be."""
        try:
            return _anew, (DupFd(self.number),)
        except OSError:  # no descriptor is left for another one, or it is closed
            return PipeEnd, (None,)


def pipe_ends() -> tuple[PipeEnd, PipeEnd]:
    """The two ends of a new pipe: to read from, and to write to."""
    read_end, write_end = os.pipe()
    return PipeEnd(read_end), PipeEnd(write_end)


def _anew(handed_over: Any) -> PipeEnd:
    try:
        return PipeEnd(handed_over.detach())
    except OSError:  # the program's own process begins here, and needs nothing of ours
        return PipeEnd(None)


def _what(number: int) -> tuple[int, int] | None:
    """The file behind a descriptor; None: there is none."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
