"""The change that a fix asks for, as linters say it: the place first, then what to write there."""

from __future__ import annotations

from mfu_doctor.render.words.pasteable import shown_code, wrap_code
from mfu_doctor.render.words.text import cells, shorten_path, wrap

LONGEST_PLACE = 44  # columns of a place beside its change; a longer one has a line of its own


def change_rows(fix: str, place: str | None, room: int, *, lines: int | None = None) -> list[str]:
    """Where to change something, then the change: `train.py:38  move validate() out of the training step`.

    Code is never cut; see `pasteable`. A fix that is only comments is no code: it is told in words.

    Args:
        fix: code to paste, or comments.
        place: the user's file:line; None or empty: not known.
        room: columns.
        lines: the most lines for the change; None: any number.
    """
    where = shorten_path(place or "", room)
    words = _words(fix, place or "")
    if words is not None and cells(where) > LONGEST_PLACE:
        return [where, *("  " + row for row in wrap(words, room - 2, lines=2 if lines else None))]
    if words is not None:
        first, *rest = wrap("  ".join(part for part in (where, words) if part), room - 2, lines=2 if lines else None)
        return [first, *("  " + row for row in rest)]
    if where and cells(fix) + cells(where) + 2 <= room and "\n" not in fix:
        return [f"{where}  {fix}".rstrip()]
    rows = wrap_code(fix, room) if lines is None else shown_code(fix, room, lines=lines)
    return [*([where] if where else []), *rows]


def _words(fix: str, place: str) -> str | None:
    """The words of a fix that is only comments, without the place that stands before them; None for code."""
    rows = [row.strip() for row in fix.splitlines() if row.strip()]
    if not rows or not all(row.startswith("#") for row in rows):
        return None
    text = " ".join(row.lstrip("# ") for row in rows)
    if place and text.startswith(f"{place} "):  # what is called there follows
        return text.removeprefix(f"{place} ")
    for told, instead in ((f"{place}: ", ""), (f" at {place}", ""), (place, "this line")):
        if place and told in text:
            return text.replace(told, instead, 1)
    return text
