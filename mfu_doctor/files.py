"""Writing a file whole or not at all: the one way in which anything of ours reaches a disk.

What stood under the name stays until the new content is complete; a full disk, an error or Ctrl-C leaves it as it was and nothing
beside it. Devices and pipes cannot be replaced and are written as streams.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mfu_doctor.errors import DoctorError

_NAME = 100  # bytes of the name that the unfinished file repeats: a name has a longest length


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary stream whose content stands under `path` once the block ends without an exception.

    Args:
        path: the file; a link is followed and stays a link, a device or a pipe is written directly.

    Raises:
        OSError: the place cannot be written; what stood there is unchanged.
    """
    given = Path(path)
    if given.exists() and not given.is_file() and not given.is_dir():
        with given.open("wb") as stream:  # by the name given: a link into /proc has no target with a name
            yield stream
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    stem = os.fsdecode(os.fsencode(target.name)[:_NAME])
    partial = target.with_name(f".{stem}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise


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
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
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
        raise DoctorError(
            f"{os.fspath(path)} cannot be written ({error.strerror or error})", "check the path"
        ) from error


def refuse_inputs(path: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse to write over a file that was read, or is about to be.

    Raises:
        DoctorError: the path is one of the inputs.
    """
    if any(is_same_file(path, source) for source in inputs):
        raise DoctorError(f"{os.fspath(path)} is an input file and would be overwritten", "pass another file to -o")


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names are one regular file: by inode, so through links too. A device or a pipe is never lost by writing."""
    try:
        left, right = os.stat(one), os.stat(other)  # noqa: PTH116 - either may be any path-like
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(left.st_mode) and os.path.samestat(left, right)
