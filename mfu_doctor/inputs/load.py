"""What a TRACE argument may be: a trace file, a directory of traces, or a report that was saved as JSON or HTML.

A gate judges traces in one place and saved reports in another (a committed baseline is one), so every verb takes both.
"""

from __future__ import annotations

import os
from pathlib import Path

from mfu_doctor.errors import NotATraceError
from mfu_doctor.result.report import Report

_PAGES = (".html", ".htm")
_HEAD = 4096  # bytes that are enough to see which tool wrote a JSON file
_OURS = b'"tool": "mfu-doctor"'


def load_report(path: str, *, peak_flops: float | None = None, model_flops: float | None = None) -> Report:
    """The report of a trace, or the one that was saved.

    Args:
        path: a trace (.json, .json.gz), a directory in TensorBoard's layout, or a saved report (.json, .html).
        peak_flops: dense peak in FLOP/s for traces; a saved report keeps its own.
        model_flops: FLOP per step for traces; likewise.

    Raises:
        DoctorError: the file is none of these, or cannot be read.
    """
    saved = load_saved(path)
    return saved if saved is not None else _diagnose(Path(path), peak_flops, model_flops)


def load_saved(path: str) -> Report | None:
    """The report that was saved in this file, or None where it is not one of ours (a trace, a directory, missing).

    Raises:
        DoctorError: a page without a report, a report of another schema, or a file that cannot be read.
    """
    file = Path(path)
    try:
        if file.suffix.lower() in _PAGES:
            from mfu_doctor.render.html.html import report_json_from_page

            return Report.from_json(report_json_from_page(file.read_text(encoding="utf-8")))
        return Report.load(file) if file.is_file() and is_report(file) else None
    except OSError as error:
        raise NotATraceError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except UnicodeDecodeError as error:
        raise NotATraceError(f"{path} is not UTF-8 text", "give a page written by -o report.html") from error


def processors() -> int:
    """Processors that this process may use: a command has them to itself while it reads."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(allowed)


def _diagnose(file: Path, peak_flops: float | None, model_flops: float | None) -> Report:
    from mfu_doctor.diagnosis.diagnose import diagnose

    if not file.is_dir():
        return diagnose(file, peak_flops=peak_flops, model_flops=model_flops, processes=processors())
    from mfu_doctor.inputs.choose import choose_trace

    chosen = choose_trace(file).path
    return diagnose(chosen, peak_flops=peak_flops, model_flops=model_flops, processes=processors())


def is_report(file: Path) -> bool:
    """Whether a JSON file was written by this tool, by its first bytes."""
    with file.open("rb") as stream:
        return _OURS in stream.read(_HEAD)
