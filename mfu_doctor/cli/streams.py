"""The standard streams of the command line: each may be closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from mfu_doctor.errors import DoctorError

_STANDARD = (0, 1, 2)


def hold_places() -> None:
    """Put the null device where a standard stream is closed.

    The next file opened would get its number, and what a library writes to "standard error" would go into that file: an output,
    or a trace. Child processes find the stream closed as before.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one


def write_result(text: str) -> None:
    """Write to standard output.

    Raises:
        DoctorError: it is closed, or cannot take the text.
        BrokenPipeError: nobody reads it any more.
    """
    stream = sys.stdout
    if stream is None:
        raise DoctorError("standard output is closed", "redirect it to a file")
    try:
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DoctorError(f"standard output cannot be written ({error.strerror})", "redirect it elsewhere") from error


def write_note(text: str) -> None:
    """Write a line to standard error, if that can take it: a result is not lost because a note about it is."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(OSError):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        stream.write(f"{text}\n")
        stream.flush()


def write_line(text: str) -> None:
    """A note without the control characters that file names and parser messages may hold: they must not reach the terminal."""
    from mfu_doctor.render.words.text import clean

    write_note(clean(text))


def write_again(text: str, *, is_last: bool) -> None:
    """Write a line to the terminal behind standard error over the one before it."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(OSError):
        stream.write(f"\r{text}" + ("\n" if is_last else ""))
        stream.flush()


def give_up() -> None:
    """What the streams could not take is dropped: Python would try it once more at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not _is_empty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_empty(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return False
    return True
