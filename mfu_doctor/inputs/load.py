"""A report from a trace, one of several ranks, a stream, or a saved report. All ranks together are read by `mfu_doctor.job`.

Every verb and the API use this module, so a path, an option and a line of pyproject.toml mean the same everywhere. What the user
passes now replaces what was passed when the run was recorded, and that replaces pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import BinaryIO, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.capture.facts.cores import processes_at_once
from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.files import possible
from mfu_doctor.inputs.choose import choose_trace
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import STDIN
from mfu_doctor.inputs.ranks import names_many
from mfu_doctor.inputs.settings import Settings, settings_here
from mfu_doctor.reading import read_trace
from mfu_doctor.reading.remote import is_address
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import HEAD_BYTES, from_json, is_of_job, is_report, json_in_page
from mfu_doctor.trace import Trace

R = TypeVar("R", bound=Report | JobReport)

_PAGES = (".html", ".htm")

PathLike: TypeAlias = str | os.PathLike[str]
Readable: TypeAlias = PathLike | BinaryIO | Trace


class Loaded(Struct, frozen=True):
    """A report, one sentence each on how its trace was chosen, and whether it was a saved one."""

    report: Report
    notes: tuple[str, ...] = ()
    is_saved: bool = False


class Opened(Struct, frozen=True):
    """A trace that was read.

    Attributes:
        trace: the trace.
        location: its file, or its address in a store; None for a stream.
        notes: one sentence each on how it was chosen from a directory.
    """

    trace: Trace
    location: str | None = None
    notes: tuple[str, ...] = ()


def load_input(
    source: Readable, overrides: Overrides | None = None, *, settings: Settings | None = None, threads: int = 1
) -> Loaded:
    """The report of whatever a user may name.

    Args:
        source: a trace (.json or gzip; a path, or an address in a store), a directory with one, a saved report (.json or .html),
            "-" for a trace on standard input, an open binary stream, or a trace that was read already.
        overrides: what the user states.
        settings: what pyproject.toml says; None: the nearest one above the working directory.
        threads: how many may read a large file at once, this one included.

    Raises:
        DoctorError: the source is none of these or has no step; a rule is unknown; an override needs the trace.
    """
    stated = overrides or Overrides()
    if stated.select or stated.ignore:
        from mfu_doctor.inputs.report_on import rules_of

        rules_of(stated)  # a wrong name fails before a gigabyte is read
    known = settings_here() if settings is None else settings
    saved = None if isinstance(source, Trace) else load_saved(source)
    if saved is not None:
        if stated.for_traces_only:
            named = ", ".join(stated.for_traces_only)
            raise DoctorError(
                f"{source} is a saved report, which cannot be used with {named}", "pass the trace instead"
            )
        from mfu_doctor.inputs.report_on import report_again

        return Loaded(report_again(saved, stated, known), is_saved=True)
    with _analysis_imported(beside=threads > 1):
        opened = open_trace(source, rank=stated.rank, threads=threads)
    from mfu_doctor.inputs.report_on import report_on

    return Loaded(report_on(opened.trace, stated, known), opened.notes)


@contextmanager
def _analysis_imported(*, beside: bool) -> Iterator[None]:
    """Import the analysis and all rules, in a thread beside what is done here, where another thread may run.

    The compiled core reads without the interpreter's lock. Reading a trace of 35 MB takes about as long as these imports.
    """
    importing = Thread(target=import_module, args=["mfu_doctor.inputs.report_on"], daemon=True)
    if beside:
        importing.start()
    try:
        yield
    finally:
        if beside:
            importing.join()


def open_trace(source: Readable, *, rank: int | None = None, threads: int = 1, one_of_many: bool = False) -> Opened:
    """Read a trace.

    Args:
        source: the trace, or what holds it.
        rank: of several ranks the one to read.
        threads: how many may read a large file at once.
        one_of_many: of several ranks read the lowest one, if none was named; otherwise that is an error.

    Raises:
        NotATraceError: there is no trace, or it cannot be read.
        DoctorError: there are several ranks, or none of this number.
    """
    if isinstance(source, Trace):
        return Opened(source)
    if source == STDIN:
        if sys.stdin is None:
            raise NotATraceError("standard input is closed", "pass the path of a trace")
        return Opened(replace(read_trace(sys.stdin.buffer), label="stdin"))
    if not isinstance(source, str | os.PathLike):
        return Opened(read_trace(source))
    if not names_many([source]):
        return Opened(read_trace(source, threads=threads), os.fspath(source))
    chosen = choose_trace([source], rank)
    if chosen.of > 1 and rank is None and not one_of_many:
        raise DoctorError(
            f"{os.fspath(source)} holds {chosen.of} ranks of one run",
            "mfu_doctor.diagnose_job(...) reads all of them, rank=0 only that one",
        )
    return Opened(read_trace(chosen.location, threads=threads), chosen.location, chosen.notes)


def load_saved(source: PathLike | BinaryIO) -> Report | None:
    """The report that was saved in this file, or None if it is not one of ours (a trace, a directory, a stream, missing).

    Raises:
        NotATraceError: a page without a report, a report of another schema or of a job, or a file that cannot be read.
    """
    return _saved(source, Report)


def load_saved_job(source: PathLike | BinaryIO) -> JobReport | None:
    """The report of a job that was saved in this file; None likewise, and if it is that of one rank.

    Raises:
        NotATraceError: a page without a report, a report of another schema, or a file that cannot be read.
    """
    return _saved(source, JobReport)


def _saved(source: PathLike | BinaryIO, kind: type[R]) -> R | None:
    if not isinstance(source, str | os.PathLike) or source == STDIN or is_address(source):
        return None
    try:
        file = possible(source)
        if file.suffix.lower() in _PAGES:
            data = json_in_page(file.read_text(encoding="utf-8"))
        elif file.is_file() and _is_ours(file):
            data = file.read_bytes()
        else:
            return None
        if issubclass(kind, JobReport) and not is_of_job(data):
            return None
        if not issubclass(kind, JobReport) and is_of_job(data):
            raise NotATraceError("the report of a job, not of one rank", "mfu_doctor.JobReport.load(...) reads it")
        return from_json(data, kind)
    except NotATraceError as error:
        raise NotATraceError(f"{os.fspath(source)}: {error.problem}", error.remedy) from error
    except OSError as error:
        raise NotATraceError(f"{source} cannot be read ({error.strerror})", "check the path") from error
    except UnicodeDecodeError as error:
        raise NotATraceError(f"{source} is not UTF-8 text", "pass a page written by -o report.html") from error


def processors() -> int:
    """Threads that may read at once: a command has its cores to itself while it reads."""
    return processes_at_once()


def _is_ours(file: Path) -> bool:
    with file.open("rb") as stream:
        return is_report(stream.read(HEAD_BYTES))
