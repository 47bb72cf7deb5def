"""A report from a trace, a directory of traces, a stream, or a saved report.

Every verb and the API use this module, so a path, an option and a line of pyproject.toml mean the same everywhere. What the user
passes now replaces what was passed when the run was recorded, and that replaces pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.capture.facts.cores import processes_at_once
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.inputs.choose import choose_trace
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import STDIN
from mfu_doctor.inputs.restate import restated
from mfu_doctor.inputs.settings import Settings, settings_here
from mfu_doctor.reading import read_trace
from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import HEAD_BYTES, from_json, is_report, json_in_page
from mfu_doctor.rules.catalogue import RULES, choose
from mfu_doctor.trace import Trace

_PAGES = (".html", ".htm")

PathLike: TypeAlias = str | os.PathLike[str]
Readable: TypeAlias = PathLike | BinaryIO | Trace


@dataclass(frozen=True, slots=True)
class Loaded:
    """A report, one sentence each on how its trace was chosen, and whether it was a saved one."""

    report: Report
    notes: tuple[str, ...] = ()
    is_saved: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A trace that was read.

    Attributes:
        trace: the trace.
        path: its file; None for a stream.
        notes: one sentence each on how it was chosen from a directory.
    """

    trace: Trace
    path: Path | None = None
    notes: tuple[str, ...] = ()


def load_input(
    source: Readable, overrides: Overrides | None = None, *, settings: Settings | None = None, processes: int = 1
) -> Loaded:
    """The report of whatever a user may name.

    Args:
        source: a trace (.json or gzip), a directory of traces, a saved report (.json or .html), "-" for a trace on standard
            input, an open binary stream, or a trace that was read already.
        overrides: what the user states.
        settings: what pyproject.toml says; None: the nearest one above the working directory.
        processes: how many may read a large file at once, this one included.

    Raises:
        DoctorError: the source is none of these or has no step; a rule is unknown; an override needs the trace.
    """
    stated = overrides or Overrides()
    rules = choose(RULES, select=stated.select, ignore=stated.ignore)  # a wrong name fails before a gigabyte is read
    known = settings_here() if settings is None else settings
    saved = None if isinstance(source, Trace) else load_saved(source)
    if saved is not None:
        if stated.for_traces_only:
            named = ", ".join(stated.for_traces_only)
            raise DoctorError(
                f"{source} is a saved report, which cannot be used with {named}", "pass the trace instead"
            )
        known_now = restated(saved, stated, known)
        return Loaded(known_now if known_now.verdict is not None else concluded(known_now), is_saved=True)
    opened = open_trace(source, processes=processes)
    run = Run(opened.trace, options_for(opened.trace, stated, known))
    return Loaded(diagnose_run(run, rules).report, opened.notes)


def open_trace(source: Readable, *, processes: int = 1) -> Opened:
    """Read a trace, of a directory the one that stands for it.

    Raises:
        NotATraceError: there is no trace, or it cannot be read.
    """
    if isinstance(source, Trace):
        return Opened(source)
    if source == STDIN:
        if sys.stdin is None:
            raise NotATraceError("standard input is closed", "pass the path of a trace")
        return Opened(replace(read_trace(sys.stdin.buffer), label="stdin"))
    if not isinstance(source, str | os.PathLike):
        return Opened(read_trace(source))
    path = Path(source)
    notes: tuple[str, ...] = ()
    if path.is_dir():
        chosen = choose_trace(path)
        path, notes = chosen.path, chosen.notes
    return Opened(read_trace(path, processes=processes), path, notes)


def options_for(trace: Trace, stated: Overrides, settings: Settings) -> Options:
    """What holds for a trace: stated now, else stated when it was recorded (`Run` asks its facts), else in pyproject.toml."""
    given = trace.facts.given if trace.facts is not None else None
    peak, flops = stated.peak_flops, stated.model_flops
    if peak is None and (given is None or given.peak_flops is None):
        peak = settings.peak_flops
    if flops is None and (given is None or given.model_flops is None):
        flops = settings.model_flops
    return Options(peak_flops=peak, model_flops=flops, steps=stated.steps)


def load_saved(source: PathLike | BinaryIO) -> Report | None:
    """The report that was saved in this file, or None if it is not one of ours (a trace, a directory, a stream, missing).

    Raises:
        NotATraceError: a page without a report, a report of another schema, or a file that cannot be read.
    """
    if not isinstance(source, str | os.PathLike) or source == STDIN:
        return None
    file = Path(source)
    try:
        if file.suffix.lower() in _PAGES:
            return from_json(json_in_page(file.read_text(encoding="utf-8")), Report)
        return from_json(file.read_bytes(), Report) if file.is_file() and _is_ours(file) else None
    except NotATraceError as error:
        raise NotATraceError(f"{os.fspath(source)}: {error.problem}", error.remedy) from error
    except OSError as error:
        raise NotATraceError(f"{source} cannot be read ({error.strerror})", "check the path") from error
    except UnicodeDecodeError as error:
        raise NotATraceError(f"{source} is not UTF-8 text", "pass a page written by -o report.html") from error


def processors() -> int:
    """Processes that may read at once: a command has its cores to itself while it reads."""
    return processes_at_once()


def _is_ours(file: Path) -> bool:
    with file.open("rb") as stream:
        return is_report(stream.read(HEAD_BYTES))
