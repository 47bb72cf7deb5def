"""What was tried, for a terminal and as markdown: predicted beside measured, the losses, the answer and its patch."""

from __future__ import annotations

from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.screen import BLANK, Line, line
from mfu_doctor.render.words import trial as words
from mfu_doctor.render.words.escape import code, inline
from mfu_doctor.render.words.text import cells, clean, each_text, pad, wrap
from mfu_doctor.result.trial import Trial, Tried

_WIDTHS = (11, 24, 8, 15)  # columns of all but the first
_INDENT = "  "
_BELOW = "      "


def render_trial(trial: Trial, *, screen: Abilities | None = None) -> str:
    """The trial for a terminal.

    Args:
        trial: what was tried.
        screen: what the stream can show; if None, 80 columns without colour, as for a pipe.
    """
    screen = screen or Abilities()
    patch, trial = words.patch_lines(trial), each_text(trial, clean)
    lines = [line(row, "head") for row in wrap(trial.program, screen.width)]
    lines += _sentences([words.headline(trial)], screen.width)
    rows = words.rows(trial)
    if rows:
        lines += [
            BLANK,
            line(_row(words.HEADS, screen.width), "head"),
            *(row for one in rows for row in _fix(one, screen.width)),
        ]
    lines += [BLANK, *_sentences([words.answer(trial), words.stopped(trial)], screen.width, "head")]
    lines += _sentences([words.untried(trial)], screen.width)
    lines += [BLANK, *(line(row, "code") for row in patch)] if patch else []
    if trial.by_hand:
        lines += [BLANK, line(f"{_INDENT}To change by hand:"), *(line(_BELOW + row, "code") for row in trial.by_hand)]
    return shown_on(screen, lines)


def _sentences(told: list[str], width: int, role: str = "") -> list[Line]:
    return [line(_INDENT + row, role) for text in told for row in wrap(text, width - len(_INDENT))]


def _fix(tried: Tried, width: int) -> list[Line]:
    """Its figures in columns if they fit, else as a sentence; then what else is known of it."""
    figures = words.figures(tried)
    below = words.beside(tried)
    row = _row(figures, width)
    columns = (_room(width), *(column - 1 for column in _WIDTHS[:-1]))  # with a space before each number
    if cells(row) > width or any(cells(text) > column for text, column in zip(figures, columns, strict=False)):
        row = _INDENT + tried.name
        named = (f"{head} {text}" for head, text in zip(words.HEADS[1:-1], figures[1:-1], strict=True) if text)
        below = ["; ".join([tried.verdict, *named]), *below]
    first = [line(part, "number") for part in wrap(row.strip(), width - len(_INDENT))]
    rest = [part for text in below for part in wrap(text, width - len(_BELOW))]
    return [*((line(_INDENT)[0], *part) for part in first), *(line(_BELOW + part, "quiet") for part in rest)]


def _room(width: int) -> int:
    return width - len(_INDENT) - sum(_WIDTHS)


def _row(texts: tuple[str, ...], width: int) -> str:
    name, *numbers, verdict = texts
    figures = "".join(text.rjust(column) for text, column in zip(numbers, _WIDTHS, strict=False))
    return f"{_INDENT}{pad(name, max(_room(width), 0))}{figures}  {verdict}".rstrip()


def render_trial_markdown(trial: Trial) -> str:
    """The trial as GitHub-flavoured markdown; every value is escaped."""
    patch, trial = words.patch_lines(trial), each_text(trial, clean)
    rows = ["### mfu-doctor try: " + inline(trial.program), "", inline(words.headline(trial)), ""]
    if found := words.rows(trial):
        rows += ["| " + " | ".join((*words.HEADS, "")) + " |", "|---|---:|---:|---:|---|---|"]
        told = ((*words.figures(tried), "; ".join(words.beside(tried))) for tried in found)
        rows += ["| " + " | ".join(inline(text) for text in texts) + " |" for texts in told]
        rows.append("")
    rows += [inline(text) for text in (words.answer(trial), words.stopped(trial), words.untried(trial)) if text]
    rows += ["", *code("\n".join(patch), "diff")] if patch else []
    rows += ["", *code("\n".join(trial.by_hand))] if trial.by_hand else []
    return "\n".join(rows) + "\n"
