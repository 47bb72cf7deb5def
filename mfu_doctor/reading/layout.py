"""Finds the traces of a run in a directory, in the layout that torch's `tensorboard_trace_handler` writes.

Every directory with at least one `<worker>[.<span>].pt.trace.json[.gz]` is a run; each worker is a rank, and the span is
the time of export, so that a run profiled twice has two spans per worker. Without such a file, the directory itself and those in
it are searched for traces of other names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading.other_files import kind_by_name
from mfu_doctor.reading.recognise import traces_by_content, what_is_there

# As torch-tb-profiler reads it (torch_tb_profiler/consts.py): worker, then the span in digits.
_TRACE_FILE = re.compile(r"^(.*?)(\.\d+)?\.pt\.trace\.json(?:\.gz)?$")
_DIGITS = re.compile(r"(\d+)")


class TraceFile(Struct, frozen=True):
    """One trace of a run: which worker wrote it, and when (None if its name does not say)."""

    path: Path
    worker: str
    span: int | None


class TraceSet(Struct, frozen=True):
    """The traces of one run, and what else is there.

    Attributes:
        run: the directory that holds them.
        ranks: the newest trace of each worker, ordered by worker as people count (rank 2 before rank 10).
        older: the other spans of these workers, newest first.
        other_runs: directories beside or below that hold traces too.
    """

    run: Path
    ranks: tuple[TraceFile, ...]
    older: tuple[TraceFile, ...] = ()
    other_runs: tuple[Path, ...] = ()

    @property
    def chosen(self) -> TraceFile:
        """The trace to report on if only one is: the first rank's newest."""
        return self.ranks[0]


def find_traces(path: str | os.PathLike[str]) -> TraceSet:
    """Find the traces of a run.

    Args:
        path: a directory that holds traces, or one above such directories: then the run written last is taken.

    Raises:
        NotATraceError: there is no trace in or below this directory.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotATraceError(f"{root} is not a directory", "check the path")
    runs = {folder: found for folder in _folders(root) if (found := _traces_in(folder))} or _of_other_names(root)
    if not runs:
        raise NotATraceError(f"{root} contains no trace: {what_is_there(root)}", _remedy(root))
    run = root if root in runs else max(runs, key=lambda folder: max(_written(trace) for trace in runs[folder]))
    newest_first = sorted(runs[run], key=_written, reverse=True)
    newest: dict[str, TraceFile] = {}
    for trace in newest_first:
        newest.setdefault(trace.worker, trace)
    return TraceSet(
        run=run,
        ranks=tuple(newest[worker] for worker in sorted(newest, key=_counting)),
        older=tuple(trace for trace in newest_first if newest[trace.worker] is not trace),
        other_runs=tuple(sorted(folder for folder in runs if folder != run)),
    )


def _remedy(root: Path) -> str:
    """What to do about a directory without traces: if it has a profile of another tool, what that is."""
    profiles = ((path.name, kind_by_name(path.name)) for path in sorted(root.iterdir()))
    found = next(((name, kind) for name, kind in profiles if kind is not None and kind.is_profile), None)
    return f"{found[0]} is {found[1].what}; {found[1].remedy}" if found else "pass a trace file or its directory"


def _folders(root: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(root)]


def _of_other_names(root: Path) -> dict[Path, list[TraceFile]]:
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    named = {
        folder: [TraceFile(path, stem_of(path.name), None) for path in traces_by_content(folder)] for folder in folders
    }
    return {folder: files for folder, files in named.items() if files}


def name_of_trace(name: str) -> tuple[str, int | None] | None:
    """The worker and the span in the name that torch gives a trace; None for other names."""
    match = _TRACE_FILE.match(name)
    return None if match is None else (match.group(1), int(match.group(2)[1:]) if match.group(2) else None)


def stem_of(name: str) -> str:
    """A name without its suffixes: what of several files tells which rank wrote them."""
    return name.removesuffix(".gz").removesuffix(".json")


def _traces_in(folder: Path) -> list[TraceFile]:
    found = []
    for path in folder.iterdir():
        named = name_of_trace(path.name)
        if named is not None and path.is_file():
            found.append(TraceFile(path, *named))
    return found


def _written(trace: TraceFile) -> tuple[int, int]:
    """Order of traces in time: by the span in their names, else by the time of the file."""
    return trace.span or 0, trace.path.stat().st_mtime_ns


def _counting(worker: str) -> list[tuple[int, str]]:
    """Sorts rank2 before rank10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(worker)]
