"""Traces of a directory whose files are not named as torch names them: `rank0.json`, `trace.json.gz`, told by how they begin."""

from __future__ import annotations

import re
from pathlib import Path

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading.source import Source

_SUFFIXES = (".json", ".json.gz")
_HEAD = 1 << 20  # bytes in which a trace has shown what it is; facts and device properties may come before its events
_LOOKED_AT = 256  # files, newest first: a directory of data may hold a million others
# A Kineto file by its own keys, or a bare list of events.
_TRACE = re.compile(rb'"(traceEvents|schemaVersion|deviceProperties)"\s*:|^\s*\[\s*\{[^{}]*"ph"\s*:')
LISTED = 5  # names in a message


def traces_by_content(folder: Path) -> list[Path]:
    """Files of this directory that begin as a trace does."""
    named = [path for path in _files(folder) if path.name.lower().endswith(_SUFFIXES)]
    newest_first = sorted(named, key=lambda path: -path.stat().st_mtime_ns)
    return [path for path in newest_first[:_LOOKED_AT] if _begins_as_a_trace(path)]


def what_is_there(folder: Path) -> str:
    """The files and directories of a directory, in short: "it holds a.csv, runs/ and 3 more"."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"it holds {', '.join(names[:LISTED])}{more}"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _begins_as_a_trace(path: Path) -> bool:
    head = b""
    try:
        with Source(path) as source:
            while len(head) < _HEAD and (more := source.read()):
                head += more
                if _TRACE.search(head):
                    return True
    except NotATraceError:  # not gzip after all, or not ours to read
        return False
    return False
