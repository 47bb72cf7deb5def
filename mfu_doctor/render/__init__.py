"""The output formats in one table. Each is a pure function of a result object.

The tables have names of modules and types and import none, so that `--help` and a terminal report load no other renderer.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from mfu_doctor.errors import DoctorError, suggest

if TYPE_CHECKING:
    from mfu_doctor.comparison.compare import Comparison
    from mfu_doctor.result.job import JobReport
    from mfu_doctor.result.report import Report
    from mfu_doctor.result.trial import Trial
    from mfu_doctor.result.verdict import Verdict

Shown: TypeAlias = "Report | JobReport | Verdict | Comparison | Trial"
_TAKEN_BY = {kind: kind.lower() for kind in ("Report", "Verdict", "Comparison", "Trial")} | {"JobReport": "job"}


class Format(Struct, frozen=True):
    """One output format of one kind of object.

    Attributes:
        name: the value of `--format`.
        takes: what it renders: a report, the report of a job, a verdict, a comparison or a trial.
        module: the module below this folder that does it.
        suffixes: file suffixes that select it.
        function: the function of the module; if empty, `render_<name>`.
    """

    name: str
    takes: str
    module: str
    suffixes: tuple[str, ...] = ()
    function: str = ""


FORMATS = (
    Format("terminal", "report", "terminal.terminal", (".txt",)),
    Format("markdown", "report", "markdown", (".md",)),
    Format("json", "report", "json", (".json",)),
    Format("html", "report", "html.html", (".html", ".htm")),
    Format("notebook", "report", "html.notebook"),
    Format("terminal", "job", "terminal.job", (".txt",), "render_job"),
    Format("markdown", "job", "job_markdown", (".md",), "render_job_markdown"),
    Format("json", "job", "json", (".json",)),
    Format("html", "job", "html.job", (".html", ".htm"), "render_job"),
    Format("terminal", "verdict", "verdict.checklist", (".txt",), "render_checklist"),
    Format("markdown", "verdict", "verdict.checklist", (".md",), "render_checklist_markdown"),
    Format("github", "verdict", "verdict.github"),
    Format("junit", "verdict", "verdict.junit", (".xml",)),
    Format("json", "verdict", "json", (".json",)),
    Format("terminal", "comparison", "comparison", (".txt",), "render_comparison"),
    Format("markdown", "comparison", "comparison", (".md",), "render_comparison_markdown"),
    Format("json", "comparison", "json", (".json",)),
    Format("terminal", "trial", "trial", (".txt",), "render_trial"),
    Format("markdown", "trial", "trial", (".md",), "render_trial_markdown"),
    Format("json", "trial", "json", (".json",)),
    Format("html", "trial", "html.html", (".html", ".htm")),
)


def names(takes: str = "report") -> tuple[str, ...]:
    """Names of the formats that render this kind of object."""
    return tuple(f.name for f in FORMATS if f.takes == takes)


def format_for(takes: str, name: str | None = None, path: str | os.PathLike[str] | None = None) -> str:
    """The format of this name, else the one of this file's suffix, else that of the terminal.

    Args:
        takes: what is rendered: "report", "job", "verdict", "comparison" or "trial".
        name: the value of `--format`; None if it was not passed.
        path: the file to write; None if there is none.

    Raises:
        DoctorError: this kind of object has no such format, or none with this suffix.
    """
    if name is not None:
        return _entry(takes, name).name
    if path is None:
        return "terminal"
    known = {suffix: entry.name for entry in FORMATS if entry.takes == takes for suffix in entry.suffixes}
    ending = Path(path).suffix.lower()
    if ending not in known:
        remedy = f"use one of the suffixes {', '.join(known)}, or pass --format"
        raise DoctorError(f"no output format is known for the file name {os.fspath(path)}", remedy)
    return known[ending]


def render(shown: Shown, format: str, **options: Any) -> str:  # noqa: A002 - the word users know from --format
    """The object as text in one format.

    Args:
        shown: a report, the report of a job, a verdict, a comparison or a trial.
        format: a name from `FORMATS`.
        options: passed on to the renderer (`terminal` of a report takes `screen`, `verbose` and `origin`).

    Raises:
        DoctorError: this kind of object has no such format.
    """
    entry = _entry(next(_TAKEN_BY[kind.__name__] for kind in type(shown).__mro__ if kind.__name__ in _TAKEN_BY), format)
    module = import_module(f"mfu_doctor.render.{entry.module}")
    text: str = getattr(module, entry.function or f"render_{entry.name}")(shown, **options)
    return text


def _entry(takes: str, name: str) -> Format:
    found = next((f for f in FORMATS if f.takes == takes and f.name == name), None)
    if found is None:
        raise DoctorError(f"unknown format {name!r} for a {takes}", suggest(name, names(takes)))
    return found
