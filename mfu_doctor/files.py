"""Writing a file whole or not at all: the one way in which anything of ours reaches a disk.

What stood under the name stays until the new content is complete; a full disk, an error or Ctrl-C leaves it as it was and nothing
beside it. Where the file system can, so does a killed process: the unfinished file has no name. Devices and pipes cannot be
replaced and are written as streams.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from mfu_doctor.errors import DoctorError
from mfu_doctor.json_text import readable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LONGEST_WAIT_S = 10  # for the reader of a pipe, that never comes or has stopped

_LOOKS_EVERY_S = 0.05
_DESCRIPTORS = "/proc/self/fd"
_NAME = 100  # bytes of the name that the unfinished file repeats: a name has a longest length


def possible(given: str | os.PathLike[str]) -> Path:
    """The path, if a file can have this name: no system keeps a NUL character or half of a surrogate pair in one.

    Raises:
        OSError: no file can; Python itself raises ValueError, but only where a file is opened.
    """
    try:
        name = os.fsencode(given)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise OSError(errno.EINVAL, "no file can have this name", os.fspath(given))
    return Path(given)


@contextmanager
def replacing(path: str | os.PathLike[str], *, patient: bool = True) -> Iterator[IO[bytes]]:
    """A binary stream whose content stands under `path` once the block ends without an exception.

    Args:
        path: the file; a link is followed and stays a link, a device or a pipe is written directly.
        patient: whether to wait for the reader of a pipe: `LONGEST_WAIT_S` until it comes, and for ever once it is there, since a
            person may read. If not, a pipe without a reader is an error, and so is one whose reader takes nothing for that time.

    Raises:
        OSError: the place cannot be written; what stood there is unchanged.
    """
    given = possible(path)
    if is_stream(given):
        # By the name given: a link into /proc has no other.
        with _pipe(given, patient=patient) if given.is_fifo() else given.open("wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    stem = os.fsdecode(os.fsencode(target.name)[:_NAME])
    partial = target.with_name(f".{stem}.{os.urandom(4).hex()}.part")
    try:
        unnamed = _without_a_name(target.parent)
        with partial.open("xb") if unnamed is None else open(unnamed, "wb") as stream:  # noqa: PTH123 - a descriptor
            yield stream
            stream.flush()
            if unnamed is not None:
                # A directory is given so that the link is followed; for an absolute path it means nothing.
                os.link(f"{_DESCRIPTORS}/{unnamed}", partial, src_dir_fd=unnamed)
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is a device or a pipe: it cannot be replaced, and what was written cannot be read again."""
    place = Path(path)
    return place.exists() and not place.is_file() and not place.is_dir()


def _without_a_name(folder: Path) -> int | None:
    """A new file that is gone when its process is, as a descriptor; None where this system has none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path(_DESCRIPTORS).is_dir():
        return None
    try:
        return os.open(folder, flag | os.O_WRONLY, 0o666)  # less what the umask takes, as for any new file
    except OSError:
        return None  # if the directory is at fault, opening a named file tells


def _pipe(path: Path, *, patient: bool) -> IO[bytes]:
    descriptor, until = None, time.monotonic() + (LONGEST_WAIT_S if patient else 0)
    while descriptor is None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= until:
                raise OSError(errno.ENXIO, "no process reads this pipe", os.fspath(path)) from error
            time.sleep(_LOOKS_EVERY_S)
    if not patient:
        return cast("IO[bytes]", io.BufferedWriter(_Impatient(descriptor)))
    os.set_blocking(descriptor, True)
    return open(descriptor, "wb")  # noqa: PTH123 - a descriptor


class _Impatient(io.RawIOBase):
    """A pipe or device that is written while it takes something, and given up when it takes nothing any more."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Write what there is room for, at least one byte.

        Raises:
            OSError: the reader is gone, or takes nothing.
        """
        if not self._ready.poll(LONGEST_WAIT_S * 1000):
            raise OSError(errno.ETIMEDOUT, f"its reader took nothing for {LONGEST_WAIT_S} s")
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """Close it once; what is left in a buffer of ours was flushed before."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def write_file(
    path: str | os.PathLike[str], content: str | bytes, *, inputs: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Write a file whole.

    Args:
        path: where to.
        content: text is written as UTF-8; what UTF-8 cannot hold (names of files that are no text) is written as escapes.
        inputs: files that were read for this and must not be replaced.

    Raises:
        DoctorError: the path is one of the inputs, or cannot be written.
    """
    data = readable(content).encode() if isinstance(content, str) else content
    with saving(path, inputs=inputs) as stream:
        stream.write(data)


@contextmanager
def saving(path: str | os.PathLike[str], *, inputs: Sequence[str | os.PathLike[str]] = ()) -> Iterator[IO[bytes]]:
    """As `replacing`, for a file that a user named: never over an input, and with an error that a user can act on.

    Raises:
        DoctorError: the path is one of the inputs, or cannot be written.
    """
    refuse_inputs(path, inputs)
    try:
        with replacing(path) as stream:
            yield stream
    except OSError as error:
        raise _unwritable(path, error) from error


def append_file(path: str | os.PathLike[str], text: str) -> None:
    """Write at the end of a file, wholly or not at all; a device or a pipe is written as a stream.

    Raises:
        DoctorError: the path cannot be written.
    """
    if is_stream(path):
        write_file(path, text)
        return
    place = Path(os.path.realpath(path))
    is_new = not place.exists()
    try:
        with place.open("ab", buffering=0) as stream:
            _append(stream.fileno(), readable(text).encode())
    except OSError as error:
        if is_new:
            place.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _append(descriptor: int, data: bytes) -> None:
    left, before = data, os.fstat(descriptor).st_size
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        if os.fstat(descriptor).st_size == before + len(data) - len(left):  # nobody else wrote meanwhile
            os.ftruncate(descriptor, before)
        raise


def _unwritable(path: str | os.PathLike[str], error: OSError) -> DoctorError:
    return DoctorError(f"{os.fspath(path)} cannot be written ({error.strerror or error})", "check the path")


def refuse_inputs(path: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse to write over a file that was read, or is about to be.

    Raises:
        DoctorError: the path is one of the inputs.
    """
    if any(is_same_file(path, source) for source in inputs):
        raise DoctorError(f"{os.fspath(path)} is an input file and would be overwritten", "write to another file")


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that is written only after long work, as far as that is known now.

    Raises:
        DoctorError: it is a folder, or it has none that takes a file.
    """
    try:
        given = possible(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    if is_stream(given):
        return
    folder = Path(os.path.realpath(given)).parent
    if given.is_dir():
        number = errno.EISDIR
    elif not folder.is_dir():
        number = errno.ENOENT
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    else:
        return
    raise _unwritable(path, OSError(number, os.strerror(number)))


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names are one regular file: by inode, so through links too. A device or a pipe is never lost by writing."""
    try:
        left, right = os.stat(one), os.stat(other)  # noqa: PTH116 - either may be any path-like
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(left.st_mode) and os.path.samestat(left, right)
