"""No output replaces an input, under whatever name: told before anything is read, and once more when it is written."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.files import refuse_inputs
from mfu_doctor.inputs.ranks import matching
from mfu_doctor.reading import find_traces
from mfu_doctor.reading.remote import is_address
from mfu_doctor.result.stored import HEAD_BYTES

STDIN = "-"
_STANDARD_INPUT = "/dev/stdin"  # a redirected file has its inode
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for a gzip header
_OF_A_TRACE = (b'"traceEvents"', b'"schemaVersion"')


def files_of(sources: Sequence[str | os.PathLike[str]]) -> tuple[str | os.PathLike[str], ...]:
    """The files behind these inputs: of a directory all its traces, of "-" the file that standard input comes from.

    What is in a store is none of them, because outputs are written here.
    """
    found: list[str | os.PathLike[str]] = []
    for source in sources:
        if source == STDIN:
            found.append(_STANDARD_INPUT)
        elif Path(source).is_dir():
            found += _traces_in(Path(source))
        elif not is_address(source):
            found += [source] if Path(source).exists() else matching(os.fspath(source))
    return tuple(found)


def protect(output: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse an output that would replace an input, or any other trace.

    Args:
        output: the file to write.
        sources: the inputs, as the user named them.

    Raises:
        DoctorError: the output is one of these.
    """
    refuse_inputs(output, files_of(sources))
    path = Path(output)
    try:
        head = _head(path) if path.is_file() else b""
    except OSError:
        return  # whoever writes it tells
    if any(mark in head for mark in _OF_A_TRACE):
        raise DoctorError(f"{os.fspath(output)} is a trace, so it is not overwritten", "pass another file with -o")


def _traces_in(folder: Path) -> list[Path]:
    try:
        found = find_traces(folder)
    except NotATraceError:
        return []  # whoever reads it tells
    own = [file.path for file in (*found.ranks, *found.older)]
    return own + [file for run in found.other_runs for file in _traces_in(run)]


def _head(path: Path) -> bytes:
    """The first bytes of a file's content, unpacked."""
    with path.open("rb") as stream:
        data = stream.read(HEAD_BYTES)
    if not data.startswith(_GZIP):
        return data
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(data, HEAD_BYTES)
    except zlib.error:
        return b""
