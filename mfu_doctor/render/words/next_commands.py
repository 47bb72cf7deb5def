"""The commands that a report ends with, and those inside its fixes: with the trace as the user wrote it, safe to paste."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from msgspec import Struct

from mfu_doctor.render.words.text import clean
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report

# How fixes name the trace. It also stands for a name that cannot be pasted: one with control characters, or one that would fill
# the screen.
PLACEHOLDER = "TRACE"
_FOLDER = "DIR"  # likewise the folder with the traces of all ranks
_LONGEST_NAME = 160
_STREAM = "-"
_REPORT = "mfu-doctor report"


class Origin(Struct, frozen=True):
    """Where a report comes from.

    Attributes:
        source: the input as the user wrote it, "-" for standard input; None: only the name in the report is known.
        is_saved: whether that is a saved report.
        folder: where the traces of all ranks are; None: not known, or only one rank ran.
        ranks: a pattern after the trace's name that other files have too, where their folder is not theirs alone.
    """

    source: str | None = None
    is_saved: bool = False
    folder: str | None = None
    ranks: str | None = None


def commands(report: Report, origin: Origin | None = None) -> list[tuple[str, str]]:
    """The next commands, each with what it gives. Nothing can read a stream again, and a saved report has no events."""
    known = origin or Origin()
    first = next((d.rule for d in report.failed), None)
    name = _name(report, known)
    of_this = "" if known.source == _STREAM else f" {name}"
    rows = [(f"mfu-doctor explain {first}{of_this}", "details of this finding")] if first else []
    if known.source != _STREAM:
        if known.folder is not None:
            rows.insert(0, (f"{_REPORT} {_pasteable(known.folder)}", "all ranks: who is late, and why"))
        rows.append((f"mfu-doctor report {name} -o report.html", ""))
        if not known.is_saved and report.device.unseen is None:  # else there is nothing to mark
            rows.append((f"mfu-doctor annotate {name} -o marked.json.gz", "open at ui.perfetto.dev"))
    return rows


def job_commands(job: JobReport, origin: Origin | None = None) -> list[tuple[str, str]]:
    """The next commands after a job's report: the page, the rank to look at, and the rule of its first finding."""
    known = origin or Origin()
    name = _pasteable(known.source or job.source)
    first = next((found.rule for found in job.findings), None)
    rows = [(f"mfu-doctor report {name} -o page.html", "ranks over time")]
    late = next((rank for blame in job.blames for rank in blame.ranks), job.typical)
    if not known.is_saved and late is not None:
        rows.append((f"mfu-doctor report {name} --rank {late}", "that rank alone"))
    if first:
        rows.append((f"mfu-doctor explain {first}", "what this finding means"))
    return rows


def naming(report: Report, origin: Origin | None = None) -> Callable[[str], str]:
    """What puts the trace's name into the commands of a text. A stream and a saved report leave the placeholder."""
    known = origin or Origin()
    name = PLACEHOLDER if known.source == _STREAM or known.is_saved else _name(report, known)
    of_all = known.folder or known.ranks
    traces = _FOLDER if of_all is None else _pasteable(of_all)

    def named(text: str) -> str:
        if _REPORT not in text:
            return text
        text = text.replace(f"{_REPORT} {PLACEHOLDER}", f"{_REPORT} {name}")
        return text.replace(f"{_REPORT} {_FOLDER} ", f"{_REPORT} {traces} ")

    return named


def _name(report: Report, origin: Origin) -> str:
    return _pasteable(origin.source or report.run.trace)


def _pasteable(name: str) -> str:
    quoted = shlex.quote(name)
    if not name or name != clean(name) or len(quoted) > _LONGEST_NAME:
        return PLACEHOLDER
    return f"./{quoted}" if name.startswith("-") else quoted
