"""What rank 0 prints when all ranks have written their traces: the report of the job instead of its own.

A rank that died writes nothing, and large traces take long to read, so training is not kept from ending for either: the wait
and the size of what is read are bounded. Nobody is waited for whose trace is not to come: a rank that records has a small file
beside it from its first step on. Otherwise rank 0 prints its own report, which ends with the command that reads all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.capture.destination import SUFFIX
from mfu_doctor.facts import PARTIAL
from mfu_doctor.result.report import Report
from mfu_doctor.units import NS_PER_S

LONGEST_WAIT_S = 3.0  # for the traces of the other ranks
_LOOKS_EVERY_S = 0.1
# Compressed traces of all ranks that are read within a few seconds: they shrink 16 times, and 60 MB of plain text take a second.
MOST_BYTES = 12 << 20


class Patience(Struct):
    """How long this process still waits for others: with many blocks no longer than with one, since they wait for it too."""

    left_s: float = LONGEST_WAIT_S


_patience = Patience()


def be_patient(seconds: float) -> None:
    """Wait for the other ranks so long: this process keeps nobody."""
    _patience.left_s = seconds


def all_told(report: Report, own: Path, folder: Path | None) -> str | None:
    """The report of all ranks of this run as text; None if they are not there soon.

    Args:
        report: that of this rank.
        own: its trace.
        folder: where the program was started.

    Raises:
        DoctorError: their traces cannot be reported on together.
    """
    traces = traces_of_all(report, own)
    return job_told(traces, folder) if traces else None


def traces_of_all(report: Report, own: Path) -> tuple[Path, ...]:
    """The trace of every rank of this run, after a short wait; none if one is missing, or they take long to read.

    Args:
        report: that of this rank.
        own: its trace, in the folder of all.
    """
    rank, several, whole = report.run.rank, report.run.world_size or 1, report.whole_run
    if rank is None or several == 1 or whole is None or own.name != f"rank{rank}{SUFFIX}":
        return ()
    since_ns = time.time_ns() - int(whole.wall_s * NS_PER_S)  # older files are of another run
    traces = tuple(own.with_name(f"rank{number}{SUFFIX}") for number in range(several))
    if not _come(traces, since_ns):
        return ()
    return traces if sum(path.stat().st_size for path in traces) <= MOST_BYTES else ()


def job_told(traces: Sequence[Path], folder: Path | None) -> str:
    """The report of these ranks as text, whose commands can be pasted where the program was started.

    They are read in this process, which has threads and devices that a copy of it could not use, and may be about to exit.

    Raises:
        DoctorError: there is none.
    """
    from mfu_doctor.inputs.settings import Settings, find_settings
    from mfu_doctor.job.diagnose import diagnose_job
    from mfu_doctor.job.executors import InPlace
    from mfu_doctor.render import render
    from mfu_doctor.render.words.next_commands import Origin

    where = traces[0].parent
    shown = where.relative_to(folder) if folder is not None and where.is_relative_to(folder) else where
    settings = Settings() if folder is None else find_settings(folder)
    made = diagnose_job(traces, settings=settings, executor=InPlace())
    report = replace(made.report, source=str(shown))
    return render(report, "terminal", origin=Origin(str(shown))).rstrip("\n")


def _come(traces: Sequence[Path], since_ns: int) -> bool:
    """Whether all are there, after a wait while those that are not are being recorded."""
    began = time.monotonic()
    missing = traces
    while missing := [path for path in missing if not _is_new(path, since_ns)]:
        is_over = time.monotonic() - began >= _patience.left_s
        if is_over or not all(_is_recorded(path, since_ns) for path in missing):
            break
        time.sleep(_LOOKS_EVERY_S)
    _patience.left_s -= time.monotonic() - began
    return not missing


def _is_recorded(path: Path, since_ns: int) -> bool:
    """Whether this trace is being made: the small file goes when the trace has come, so that is looked for last."""
    return _is_new(path.with_name(path.name + PARTIAL), since_ns) or _is_new(path, since_ns)


def _is_new(path: Path, since_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns >= since_ns
    except OSError:
        return False
