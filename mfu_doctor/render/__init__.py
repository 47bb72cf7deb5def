"""Every output, each a pure function of a result object, listed in one explicit table.

The table names modules instead of importing them, so that `--help` and a terminal report pay for no other renderer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from mfu_doctor.comparison.compare import Comparison
from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.result.report import Report
from mfu_doctor.result.verdict import Verdict

Shown: TypeAlias = Report | Verdict | Comparison


@dataclass(frozen=True, slots=True)
class Format:
    """One output format of one kind of object.

    Attributes:
        name: what `--format` takes.
        takes: what it renders: a report, a verdict or a comparison.
        module: the module below this folder that does it.
        suffixes: file endings that choose it.
        function: the function of the module; `render_<name>` where it is not said.
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
    Format("terminal", "verdict", "verdict.checklist", (".txt",), "render_checklist"),
    Format("markdown", "verdict", "verdict.checklist", (".md",), "render_checklist_markdown"),
    Format("github", "verdict", "verdict.github"),
    Format("junit", "verdict", "verdict.junit", (".xml",)),
    Format("json", "verdict", "json", (".json",)),
    Format("terminal", "comparison", "comparison", (".txt",), "render_comparison"),
    Format("markdown", "comparison", "comparison", (".md",), "render_comparison_markdown"),
    Format("json", "comparison", "json", (".json",)),
)


def names(takes: str = "report") -> tuple[str, ...]:
    """Names of the formats that render this kind of object."""
    return tuple(f.name for f in FORMATS if f.takes == takes)


def format_for(takes: str, name: str | None = None, path: str | os.PathLike[str] | None = None) -> str:
    """The format that is asked for by its name, else the one that a file's ending means, else the terminal's.

    Args:
        takes: what is rendered: "report", "verdict" or "comparison".
        name: what the user gave as `--format`; None where nothing.
        path: the file that will be written; None where none.

    Raises:
        DoctorError: this kind of object has no such format, or none with this ending.
    """
    if name is not None:
        return _entry(takes, name).name
    if path is None:
        return "terminal"
    known = {suffix: entry.name for entry in FORMATS if entry.takes == takes for suffix in entry.suffixes}
    ending = Path(path).suffix.lower()
    if ending not in known:
        remedy = f"end it in one of {', '.join(known)}, or add --format"
        raise DoctorError(f"{os.fspath(path)} does not say which format to write", remedy)
    return known[ending]


def render(shown: Shown, format: str, **options: Any) -> str:  # noqa: A002 - the word users know from --format
    """The object as text in one format.

    Args:
        shown: a report, a verdict or a comparison.
        format: a name from `FORMATS`.
        options: passed on to the renderer (a report's terminal takes `width`, `color`, `unicode`, `verbose`).

    Raises:
        DoctorError: there is no such format for this kind of object.
    """
    takes = "verdict" if isinstance(shown, Verdict) else "comparison" if isinstance(shown, Comparison) else "report"
    entry = _entry(takes, format)
    module = import_module(f"mfu_doctor.render.{entry.module}")
    text: str = getattr(module, entry.function or f"render_{entry.name}")(shown, **options)
    return text


def _entry(takes: str, name: str) -> Format:
    found = next((f for f in FORMATS if f.takes == takes and f.name == name), None)
    if found is None:
        raise DoctorError(f"there is no format {name!r} for a {takes}", suggest(name, names(takes)))
    return found
