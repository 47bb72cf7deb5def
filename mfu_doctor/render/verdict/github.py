"""The verdict as GitHub annotations: the failures, at the line of the sync or of the call of `profile()`.

GitHub shows ten annotations per step and drops the rest without a message. So only failures are annotated, and the tenth
annotation says how many more there are. Workflow commands are text in a log. Every value is escaped, so that the name of a
kernel cannot be a command.
"""

from __future__ import annotations

from pathlib import Path

from mfu_doctor.quantities import counted
from mfu_doctor.render.verdict.saves import saves
from mfu_doctor.render.words.text import clean, each_text
from mfu_doctor.result.verdict import Check, Verdict

MOST = 10  # annotations that GitHub shows per step and level


def render_github(verdict: Verdict, *, root: Path | None = None) -> str:
    """Workflow commands, one per line, and a last plain line with the outcome.

    Args:
        verdict: the outcome.
        root: the root of the repository; paths are relative to it, and paths outside it are left out.
    """
    verdict = each_text(verdict, clean)
    base = root or repository_root(Path.cwd())
    failures = verdict.failures
    shown = failures if len(failures) <= MOST else failures[: MOST - 1]
    lines = [_annotation(check, verdict, base) for check in shown]
    if len(failures) > len(shown):
        rest = failures[len(shown) :]
        names, more = ", ".join(check.name for check in rest), counted(len(rest), "more failure")
        lines.append(f"::error title=mfu-doctor::{escape_data(f'+{more}: {names}')}")
    return "\n".join([*lines, f"mfu-doctor check {verdict.headline}"]) + "\n"


def _annotation(check: Check, verdict: Verdict, root: Path) -> str:
    place = next((found for place in (*check.places, verdict.judged.site) if (found := locate(place, root))), None)
    properties = {"title": f"mfu-doctor ({check.name})"}
    if place is not None:
        properties |= {"file": place[0], "line": str(place[1])}
    written = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items())
    return f"::error {written}::{escape_data(_message(check))}"


def _message(check: Check) -> str:
    parts = [check.summary, *([check.since] if check.since else [])]
    if check.saving is not None:
        parts.append(saves(check))
    if len(check.places) > 1:
        parts.append(f"at {', '.join(check.places)}")
    text = "; ".join(parts)
    if check.fix:
        text += f"\n{check.fix}"
    return text + (f"\nmfu-doctor explain {check.name}" if check.kind == "rule" else "")


def escape_data(text: str) -> str:
    """A message, escaped as by the toolkit of the runner."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """The value of a property, escaped as by the toolkit of the runner."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def locate(place: str | None, root: Path) -> tuple[str, int] | None:
    """File relative to the root, with slashes, and line of a place such as "train.py:41"; None if it is outside."""
    file, _, line = (place or "").rpartition(":")
    if not file or not line.isascii() or not line.isdigit():
        return None
    path = Path(file)
    try:
        if not path.is_absolute():
            beside = Path.cwd() / path
            path = beside if beside.is_relative_to(root) and beside.exists() else root / path
        return path.resolve().relative_to(root.resolve()).as_posix(), int(line)
    except (ValueError, OSError):
        return None


def repository_root(start: Path) -> Path:
    """The nearest folder upwards that contains `.git`, or `start` itself."""
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)
