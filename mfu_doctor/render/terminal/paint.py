"""What a stream can show, and lines with the colours that it can show.

`report`, `check` and `compare` share it: the words are the same with and without colour.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TextIO

from msgspec import Struct

from mfu_doctor.render.terminal.screen import Line, plain
from mfu_doctor.render.words.text import WIDTH

WIDEST = 120  # longer lines are hard to read; $COLUMNS may ask for more
# Least and most columns that $COLUMNS may set: the tables need the first, no line needs more than the second.
NARROWEST, FARTHEST = 60, 400
_LONGEST_WIDTH = 9  # characters of $COLUMNS that are read
_FORCING = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # variables by which a pipe gets colour too

# One colour for bars and code; the rest differs only in weight. Red is reserved for a failed check.
STYLES = {
    "head": "bold",
    "bar": "cyan",
    "number": "bold",
    "code": "cyan",
    "quiet": "dim",
    "failed": "bold red",
}


class Abilities(Struct, frozen=True):
    """What a stream can show."""

    width: int = WIDTH
    color: bool = False
    unicode: bool = False
    terminal: bool = False


def abilities(stream: TextIO, environ: Mapping[str, str] | None = None) -> Abilities:
    """What the stream can show, honouring NO_COLOR, FORCE_COLOR, TTY_COMPATIBLE, TERM and COLUMNS as rich does.

    Unicode needs a real terminal that says UTF-8; forcing colour does not turn it on. COLUMNS counts for a pipe as well.
    """
    asked = dict(os.environ if environ is None else environ)
    real = bool(getattr(stream, "isatty", lambda: False)())
    if not real and not _FORCING & asked.keys():
        return Abilities(width=_width(WIDTH, asked, real=False))  # to load rich would take longer than all the painting
    from rich.console import Console

    console = Console(file=stream, _environ=asked)
    width = _width(console.width, asked, real=real)
    color = console.color_system is not None and not console.no_color and console.is_terminal
    unicode = real and (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
    return Abilities(width=width, color=color, unicode=unicode, terminal=real)


def _width(found: int, environ: Mapping[str, str], *, real: bool) -> int:
    """Columns to use: those of COLUMNS, else those of the terminal up to `WIDEST`, else `WIDTH`."""
    asked = environ.get("COLUMNS", "")[:_LONGEST_WIDTH]
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return min(max(int(asked), NARROWEST), FARTHEST)
    return min(max(found, NARROWEST), WIDEST) if real else WIDTH


def shown_on(screen: Abilities, lines: Sequence[Line]) -> str:
    """The lines as text, with colour where the stream shows it."""
    return paint(lines) if screen.color else "".join(f"{plain(row)}\n" for row in lines)


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
