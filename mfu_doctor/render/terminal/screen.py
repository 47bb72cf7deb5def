"""Lines of styled text, and how they share one screen: lines that are always shown, and lines shown if there is room.

A line has its text and the role of each piece, but no colour. Output with and without colour has the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

ALL = "  (-v lists all)"


class Span(NamedTuple):
    """A piece of a line; `role` is a style name such as head, bar, quiet or number."""

    text: str
    role: str = ""


Line = tuple[Span, ...]
BLANK: Line = ()


def line(text: str, role: str = "") -> Line:
    """A line of one piece."""
    return (Span(text, role),)


def plain(row: Line) -> str:
    """The words of a line."""
    return "".join(span.text for span in row).rstrip()


class Block(Struct, frozen=True):
    """Lines that belong together.

    Attributes:
        fixed: lines always shown.
        extra: entries shown while there is room, each of one or more lines.
        gap: whether a blank line comes before.
        urgency: blocks with a lower number get room first.
        hint: whether the first line gets a colon, and a note that `-v` shows the entries that did not fit.
    """

    fixed: tuple[Line, ...]
    extra: tuple[tuple[Line, ...], ...] = ()
    gap: bool = False
    urgency: int = 1
    hint: bool = True
    shown: int = field(default=0)

    def lines(self) -> list[Line]:
        """The lines to print, with the entries that fit."""
        rows = [*self.fixed, *(row for entry in self.extra[: self.shown] for row in entry)]
        if self.hint and self.extra:
            colon = ":" if self.shown else ""
            rows[0] = (*rows[0], Span(colon + (ALL if self.shown < len(self.extra) else ""), "quiet"))
        return ([BLANK] if self.gap and rows else []) + rows


def fit(blocks: Iterable[Block], limit: int | None) -> list[Line]:
    """All lines of the blocks, with as many extra entries as `limit` lines leave room for (None: all of them).

    Entries are given in rounds, one to each block in order of urgency, so that every section gets some.
    """
    chosen = list(blocks)
    if limit is None:
        return [row for block in chosen for row in replace(block, shown=len(block.extra)).lines()]
    room = limit - sum(len(block.lines()) for block in chosen)
    order = sorted(range(len(chosen)), key=lambda i: chosen[i].urgency)
    waiting = [i for i in order if chosen[i].extra]
    while waiting:
        waiting = [i for i in waiting if _grants(chosen, i, room)]
        for i in waiting:
            more = replace(chosen[i], shown=chosen[i].shown + 1)
            need = len(more.lines()) - len(chosen[i].lines())
            if need > room:
                continue
            room -= need
            chosen[i] = more
        waiting = [i for i in waiting if chosen[i].shown < len(chosen[i].extra)]
    return [row for block in chosen for row in block.lines()]


def _grants(blocks: Sequence[Block], index: int, room: int) -> bool:
    """Whether the next entry of a block fits."""
    more = replace(blocks[index], shown=blocks[index].shown + 1)
    return len(more.lines()) - len(blocks[index].lines()) <= room
