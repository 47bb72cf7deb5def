"""Which trace of a directory to report on (the lowest rank of the newest run), and the notes about the other traces.

A directory can contain several ranks of one run, the same run recorded again, and other runs. These must never be mixed in one
report.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfu_doctor.reading import TraceFile, find_traces
from mfu_doctor.reading.source import Source

# Ranks of one run export when their last step is over; a rank that waits for slow storage can be minutes behind.
SAME_RUN_NS = 600 * 1_000_000_000
LISTED = 5  # names of traces in one line
_HEAD = 1 << 20  # bytes in which Kineto has written who it is; device properties come before
_NAMED = re.compile(r"rank[_-]?(\d+)", re.IGNORECASE)
_TOLD = re.compile(rb'"distributedInfo"\s*:\s*\{[^{}]*?"rank"\s*:\s*(\d+)')
# A span is a time since 1970 in ms, us or ns, depending on torch's version; distinguished by its size.
_SPAN_UNITS = ((10**18, 1), (10**15, 10**3), (10**12, 10**6))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The trace to report on, and one sentence each on the choice, on other ranks of its run, and on other runs."""

    path: Path
    notes: tuple[str, ...]


def choose_trace(folder: str | Path) -> Chosen:
    """The trace of a directory to report on.

    Args:
        folder: a directory that holds traces, or one above such directories.

    Raises:
        NotATraceError: there is no trace in or below this directory.
    """
    found = find_traces(folder)
    files = [*found.ranks, *found.older]
    newest = max(files, key=_written)
    ranks = _ranks_of_run(newest, files)
    chosen = ranks[min(ranks)] if ranks else newest
    siblings = [ranks[rank] for rank in sorted(ranks) if ranks[rank] is not chosen]
    mine = (chosen, *siblings)
    others = [file.path.name for file in files if not any(file is kept for kept in mine)]
    others += [str(run) for run in found.other_runs]
    which = [f"rank {min(ranks)}"] if siblings else []
    which += ["newest run in this directory"] if others else []
    notes = [f"reporting on {chosen.path}" + (f" ({', '.join(which)})" if which else "")]
    if siblings:
        names = _some([file.path.name for file in siblings])
        command = f"mfu-doctor report {shlex.quote(str(siblings[0].path))}"
        notes.append(f"other ranks of this run: {names}; to report on one of them: {command}")
    if others:
        notes.append(f"other runs in this directory: {_some(others)}")
    return Chosen(chosen.path, tuple(notes))


def one_trace(source: str) -> Chosen:
    """The source itself, or of a directory the trace to take."""
    return choose_trace(source) if Path(source).is_dir() else Chosen(Path(source), ())


def _ranks_of_run(newest: TraceFile, files: Sequence[TraceFile]) -> dict[int, TraceFile]:
    """The ranks that were exported with the newest trace; empty if its rank is not known."""
    own = _rank(newest)
    if own is None:
        return {}
    when = _written(newest)
    ranks = {own: newest}
    for file in sorted(files, key=lambda file: when - _written(file)):
        near = when - _written(file) <= SAME_RUN_NS
        rank = _rank(file) if near else None
        if rank is not None:
            ranks.setdefault(rank, file)
    return ranks


def _rank(file: TraceFile) -> int | None:
    """The rank by the file's name, else by the head of its content."""
    named = _NAMED.search(file.worker)
    if named is not None:
        return int(named[1])
    head = b""
    with Source(file.path) as source:
        while len(head) < _HEAD and (more := source.read()):
            head += more
            told = _TOLD.search(head)
            if told is not None:
                return int(told[1])
    return None


def _written(file: TraceFile) -> int:
    """When a trace was written, in nanoseconds since 1970: by the span in its name, else by the time of the file."""
    scale = next((scale for least, scale in _SPAN_UNITS if file.span is not None and file.span >= least), None)
    return file.path.stat().st_mtime_ns if file.span is None or scale is None else file.span * scale


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
