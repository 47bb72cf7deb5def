"""The report on one screen of a terminal: at most 34 lines of 80 columns, the same words with and without colour.

This is the default output of `mfu-doctor report`. Its order is that of an answer: what limits the run, what to do and where, how
much it brings and how sure that is, then the measurement behind it. The first ten lines can be pasted alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import TextIO

from mfu_doctor.render.terminal import fixes as panel_fixes
from mfu_doctor.render.terminal import panels, top
from mfu_doctor.render.terminal.panels import Look
from mfu_doctor.render.terminal.screen import Block, Line, fit, plain
from mfu_doctor.render.terminal.tables import appendix
from mfu_doctor.render.words.next_commands import Origin, naming
from mfu_doctor.render.words.text import WIDTH, clean, each_text, to_ascii
from mfu_doctor.result.report import Report

SCREEN_LINES = 34
WIDEST = 100  # longer lines are hard to read; $COLUMNS may ask for more
NARROWEST, FARTHEST = (
    60,
    400,
)  # least and most columns that $COLUMNS may set: the tables need the first, no line needs more than the second
FIXES = (3, 2, 1)  # fixes shown in full: the most that fit on the screen

# One colour for bars and code; the rest differs only in weight. Red is reserved for a failed check.
STYLES = {"head": "bold", "bar": "cyan", "number": "bold", "code": "cyan", "quiet": "dim"}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a stream can show."""

    width: int = WIDTH
    color: bool = False
    unicode: bool = False
    terminal: bool = False


def abilities(stream: TextIO, environ: Mapping[str, str] | None = None) -> Abilities:
    """What the stream can show, honouring NO_COLOR, FORCE_COLOR, TTY_COMPATIBLE, TERM and COLUMNS as rich does.

    Unicode needs a real terminal that says UTF-8; forcing colour does not turn it on. COLUMNS counts for a pipe as well.
    """
    from rich.console import Console

    console = Console(file=stream, _environ=dict(os.environ if environ is None else environ))
    real = bool(getattr(stream, "isatty", lambda: False)())
    width = _width(console.width, os.environ if environ is None else environ, real=real)
    color = console.color_system is not None and not console.no_color and console.is_terminal
    unicode = real and (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
    return Abilities(width=width, color=color, unicode=unicode, terminal=real)


def _width(found: int, environ: Mapping[str, str], *, real: bool) -> int:
    """Columns to use: those of COLUMNS, else those of the terminal up to `WIDEST`, else `WIDTH`."""
    asked = environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return min(max(int(asked), NARROWEST), FARTHEST)
    return min(max(found, NARROWEST), WIDEST) if real else WIDTH


def render_terminal(
    report: Report, *, screen: Abilities | None = None, verbose: bool = False, origin: Origin | None = None
) -> str:
    """The report as text for a terminal.

    Args:
        report: the result to show.
        screen: what the stream can show; if None, plain ASCII with 80 columns, as for a pipe.
        verbose: everything the report knows instead of one screen.
        origin: where the report comes from, for the next commands.
    """
    screen = screen or Abilities()
    name = naming(report, origin)
    letters = clean if screen.unicode else lambda text: to_ascii(clean(text))
    shown = each_text(_without_bulk(report), lambda text: letters(name(text)))
    look = Look(width=screen.width, unicode=screen.unicode, verbose=verbose, origin=origin or Origin())
    lines = fit(_blocks(shown, look), None)
    for most in () if verbose else FIXES:
        lines = fit(_blocks(shown, replace(look, fixes=most)), SCREEN_LINES)
        if len(lines) <= SCREEN_LINES:
            break
    return paint(lines) if screen.color else "".join(f"{plain(row)}\n" for row in lines)


def _blocks(report: Report, look: Look) -> list[Block]:
    """All sections in their fixed order."""
    return [
        panels.header(report, look),
        *top.caveats(report, look),
        *top.verdict(report, look),
        *panel_fixes.fixes(report, look),
        panels.number(report, look),
        *panels.whole(report, look),
        panels.where(report, look),
        *panels.code(report, look),
        *panels.judged(report, look),
        *panels.caution(report, look),
        *(appendix(report, look) if look.verbose else []),
        panels.following(report, look),
    ]


def _without_bulk(report: Report) -> Report:
    """The report without the parts that a terminal never shows, so that cleaning its texts is cheap."""
    return replace(report, drawing=None, samples=())


def paint(lines: Sequence[Line]) -> str:
    """The lines with ANSI styles. Without the styles the text is the same."""
    from rich.console import Console
    from rich.text import Text

    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", no_color=False, highlight=False, width=10_000
    )
    for row in lines:
        text = Text()
        for span in row:
            text.append(span.text, STYLES.get(span.role, ""))
        text.rstrip()
        console.print(text, soft_wrap=True, markup=False, emoji=False)
    return out.getvalue()
