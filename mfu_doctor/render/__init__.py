"""Every output, each a pure function of a result object, listed in one explicit table.

The table names modules instead of importing them, so that `--help` and a terminal report pay for no other renderer.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mfu_doctor.errors import DoctorError

if TYPE_CHECKING:
    from mfu_doctor.result.report import Report


@dataclass(frozen=True, slots=True)
class Format:
    """One output format of one kind of object.

    Attributes:
        name: what `--format` takes.
        takes: what it renders: a report, a verdict or a comparison.
        module: the module below this folder that does it.
        suffixes: file endings that choose it.
    """

    name: str
    takes: str
    module: str
    suffixes: tuple[str, ...] = ()


FORMATS = (
    Format("terminal", "report", "terminal.terminal", (".txt",)),
    Format("markdown", "report", "markdown", (".md",)),
    Format("json", "report", "json", (".json",)),
    Format("html", "report", "html.html", (".html", ".htm")),
    Format("notebook", "report", "html.notebook"),
    Format("terminal", "verdict", "verdict.checklist", (".txt",)),
    Format("markdown", "verdict", "verdict.checklist", (".md",)),
    Format("github", "verdict", "verdict.github"),
    Format("junit", "verdict", "verdict.junit", (".xml",)),
    Format("json", "verdict", "verdict.checklist", (".json",)),
    Format("terminal", "comparison", "comparison", (".txt",)),
    Format("markdown", "comparison", "comparison", (".md",)),
    Format("json", "comparison", "comparison", (".json",)),
)


def names(takes: str = "report") -> tuple[str, ...]:
    """Names of the formats that render this kind of object."""
    return tuple(f.name for f in FORMATS if f.takes == takes)


def format_of(path: str) -> str:
    """The report format that a file name asks for by its ending.

    Raises:
        DoctorError: no report format has this ending.
    """
    for entry in FORMATS:
        if entry.takes == "report" and path.lower().endswith(entry.suffixes or ("\0",)):
            return entry.name
    endings = ", ".join(s for f in FORMATS if f.takes == "report" for s in f.suffixes)
    raise DoctorError(f"{path} does not say which format to write", f"end it in one of {endings}, or add --format")


def render(report: Report, format: str, **options: Any) -> str:  # noqa: A002 - the word users know from --format
    """The report as text in one format.

    Args:
        report: the result to show.
        format: a name from `FORMATS`.
        options: passed on to the renderer (the terminal takes `width`, `color`, `unicode`, `verbose`).

    Raises:
        DoctorError: there is no such format for a report.
    """
    entry = next((f for f in FORMATS if f.takes == "report" and f.name == format), None)
    if entry is None:
        raise DoctorError(f"there is no report format {format!r}", f"use one of {', '.join(names())}")
    module = import_module(f"mfu_doctor.render.{entry.module}")
    text: str = getattr(module, f"render_{format}")(report, **options)
    return text
