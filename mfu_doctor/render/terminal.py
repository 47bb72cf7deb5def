"""The report on one screen of a terminal: at most 40 lines of 80 columns, the same words with and without colour.

It is what `mfu-doctor report` prints by default and what people paste into a chat, so the first four lines stand alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

from mfu_doctor.render import panels
from mfu_doctor.render.panels import Look
from mfu_doctor.render.screen import Line, fit, plain
from mfu_doctor.render.tables import appendix
from mfu_doctor.render.text import clean, each_text, to_ascii
from mfu_doctor.report import Report

SCREEN_LINES = 40
WIDTH = 80
WIDEST = 100  # columns beyond which lines become hard to read; below WIDTH the terminal wraps them

# One hue for bars; everything else is weight. Red is kept for a failed gate.
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

    Unicode needs a real terminal that says UTF-8; forcing colour does not turn it on.
    """
    from rich.console import Console

    console = Console(file=stream, _environ=dict(os.environ if environ is None else environ))
    real = bool(getattr(stream, "isatty", lambda: False)())
    width = min(max(console.width, WIDTH), WIDEST) if real else WIDTH
    color = console.color_system is not None and not console.no_color and console.is_terminal
    unicode = real and (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
    return Abilities(width=width, color=color, unicode=unicode, terminal=real)


def render_terminal(
    report: Report, *, screen: Abilities | None = None, verbose: bool = False, source: str | None = None
) -> str:
    """The report as text for a terminal.

    Args:
        report: the result to show.
        screen: what the stream can show; without it plain ASCII of 80 columns, as for a pipe.
        verbose: everything the report knows instead of one screen.
        source: the trace as the user named it, for the commands to type next.
    """
    screen = screen or Abilities()
    shown = each_text(_without_bulk(report), clean if screen.unicode else lambda text: to_ascii(clean(text)))
    look = Look(width=screen.width, unicode=screen.unicode, verbose=verbose, source=source)
    blocks = [
        panels.header(shown, look),
        panels.number(shown, look),
        panels.where(shown, look),
        *panels.fixes(shown, look),
        panels.passed(shown, look),
        *panels.unmeasured(shown, look),
        *panels.caution(shown, look),
        *(appendix(shown, look) if verbose else []),
        panels.following(shown, look),
    ]
    lines = fit(blocks, None if verbose else SCREEN_LINES)
    return paint(lines) if screen.color else "".join(f"{plain(row)}\n" for row in lines)


def _without_bulk(report: Report) -> Report:
    """The report without what no terminal shows, so that cleaning its texts stays cheap."""
    from dataclasses import replace

    return replace(report, drawing=None, samples=())


def paint(lines: Sequence[Line]) -> str:
    """The lines with ANSI styles; stripping the styles gives the plain text back."""
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
