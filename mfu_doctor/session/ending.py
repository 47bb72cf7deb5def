"""The end of a block: whether it has come, its report, and the words for that."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import replace

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.edges import Source
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import is_stream
from mfu_doctor.session.all_ranks import all_told

if TYPE_CHECKING:
    from mfu_doctor.api.report import Report
    from mfu_doctor.capture.capture import Capture
    from mfu_doctor.facts.whole_run import WholeRun

_NO_JOB = "the report of all ranks could not be made"
_MANY = 2  # ranks


def trains_on(capture: Capture) -> bool:
    """Whether the training may go on in another thread, for which Python waits at its exit."""
    thread = capture.signs.thread
    elsewhere = thread.current != thread.home or capture.detector.source is Source.BLOCK
    here = threading.current_thread()
    return elsewhere and any(not other.daemon and other is not here for other in threading.enumerate())


def report_of(path: Path, folder: Path | None, content: BinaryIO | None = None) -> Report:
    """The report of a trace, with the settings of the directory in which the block began.

    Args:
        path: its file.
        folder: that directory.
        content: the file, opened before it may have been written anew; None: as it is now.

    Raises:
        DoctorError: there is none.
    """
    from mfu_doctor.api.report import Report
    from mfu_doctor.inputs.load import load_input
    from mfu_doctor.inputs.settings import Settings, find_settings
    from mfu_doctor.reading import read_trace

    if is_stream(path):
        raise DoctorError(f"the trace went into {path}, which cannot be read again", "write it to a file")
    settings = Settings() if folder is None else find_settings(folder)
    source = path if content is None else replace(read_trace(content), label=path.name)
    return Report.of(load_input(source, settings=settings).report)


def work_of(path: Path, folder: Path | None) -> tuple[float | None, float | None, str | None]:
    """What a step of a trace computes, as its report counts it: FLOP, the seconds that they take at the peak, and why not.

    Args:
        path: its file.
        folder: the directory in which the block began.

    Raises:
        DoctorError: it holds no step.
    """
    from mfu_doctor.analysis.run import Run
    from mfu_doctor.inputs.overrides import Overrides
    from mfu_doctor.inputs.report_on import options_for
    from mfu_doctor.inputs.settings import Settings, find_settings
    from mfu_doctor.reading import read_trace

    trace = read_trace(path)
    settings = Settings() if folder is None else find_settings(folder)
    mfu = Run(trace, options_for(trace, Overrides(), settings)).mfu
    value = mfu.report.value
    return mfu.report.model_flops, None if value is None else value * mfu.step_s, mfu.report.reason


def told(report: Report, path: Path | None, folder: Path | None) -> str:
    """The report as text, with commands that can be pasted where the program was started; that of all ranks if they are there.

    If they are there and cannot be reported on together, a line after it says why.
    """
    from mfu_doctor.render import render
    from mfu_doctor.render.words.next_commands import Origin

    why = Notes()
    of_all = None if path is None else why.guarded(_NO_JOB, all_told, report, path, folder)
    if of_all is not None:
        return of_all
    if path is not None and folder is not None and path.is_relative_to(folder):
        path = path.relative_to(folder)
    # Ranks of one recording write into a folder of their own: that of a rank that is late or died may be there yet.
    of_ranks = (
        None if path is None or path.parent == Path() or (report.run.world_size or 1) < _MANY else str(path.parent)
    )
    own = render(report, "terminal", origin=Origin(None if path is None else str(path), folder=of_ranks)).rstrip("\n")
    return "\n".join([own, *(f"mfu-doctor: {' '.join(note.split())}" for note in why.said)])


def told_of_run(run: WholeRun) -> str:
    """What the run adds to a report that was printed while it went on."""
    from mfu_doctor.render.words import whole_run

    return whole_run.told(run)
