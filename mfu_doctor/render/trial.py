"""What was tried, for a terminal and as markdown: predicted beside measured, the losses, the answer and its patch."""

from __future__ import annotations

from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.screen import BLANK, Line, Span, line
from mfu_doctor.render.words import trial as words
from mfu_doctor.render.words.escape import inline
from mfu_doctor.render.words.text import clean, each_text, pad, shorten, wrap
from mfu_doctor.result.trial import Trial, Tried

_HEADS = ("fix", "predicted", "saves per step", "noise", "verdict")
_PREDICTED, _MEASURED, _NOISE, _VERDICT = 13, 22, 9, 15  # columns
_INDENT = "  "
_BELOW = "      "


def render_trial(trial: Trial, *, screen: Abilities | None = None) -> str:
    """The trial for a terminal.

    Args:
        trial: what was tried.
        screen: what the stream can show; if None, 80 columns without colour, as for a pipe.
    """
    screen = screen or Abilities()
    trial = each_text(trial, clean)
    lines: list[Line] = [line(row, "head" if not i else "") for i, row in enumerate(wrap(trial.program, screen.width))]
    lines += [line(_INDENT + row) for row in wrap(words.headline(trial), screen.width - 2)]
    lines += [BLANK, line(_row(_HEADS, screen.width), "head")]
    for tried in (*trial.tried, *((trial.together,) if trial.together is not None else ())):
        lines += _fix(tried, screen.width)
    told = [words.answer(trial), words.stopped(trial)]
    lines += [BLANK, *(line(_INDENT + row, "head") for text in told for row in wrap(text, screen.width - 2))]
    return shown_on(screen, [*lines, *_changes(trial)])


def _fix(tried: Tried, width: int) -> list[Line]:
    cells = (tried.name, words.predicted(tried), words.measured(tried), words.noise(tried), tried.verdict)
    below = [row for text in words.beside(tried) for row in wrap(text, width - len(_BELOW))]
    return [line(_row(cells, width), "number"), *(line(_BELOW + row, "quiet") for row in below)]


def _row(cells: tuple[str, ...], width: int) -> str:
    name, predicted, measured, noise, verdict = cells
    room = width - _PREDICTED - _MEASURED - _NOISE - _VERDICT - len(_INDENT)
    figures = predicted.rjust(_PREDICTED) + measured.rjust(_MEASURED) + noise.rjust(_NOISE)
    if len(name) > room:
        return f"{_INDENT}{shorten(name, width - 2)}\n{_INDENT}{pad('', room)}{figures}  {verdict}"
    return f"{_INDENT}{pad(name, room)}{figures}  {verdict}".rstrip()


def _changes(trial: Trial) -> list[Line]:
    """The patch, and the lines whose place is not certain."""
    lines: list[Line] = []
    if trial.patch:
        lines += [BLANK, *((Span(row, "code"),) for row in trial.patch.splitlines())]
    if trial.by_hand:
        lines += [BLANK, line(f"{_INDENT}To change by hand:")]
        lines += [line(_BELOW + row, "code") for text in trial.by_hand for row in text.splitlines()]
    return lines


def render_trial_markdown(trial: Trial) -> str:
    """The trial as GitHub-flavoured markdown; every value is escaped."""
    trial = each_text(trial, clean)
    rows = ["### mfu-doctor try: " + inline(trial.program), "", inline(words.headline(trial)), ""]
    rows += ["| " + " | ".join((*_HEADS, "")) + " |", "|---|---:|---:|---:|---|---|"]
    for tried in (*trial.tried, *((trial.together,) if trial.together is not None else ())):
        figures = (words.predicted(tried), words.measured(tried), words.noise(tried))
        cells = (tried.name, *figures, tried.verdict, "; ".join(words.beside(tried)))
        rows.append("| " + " | ".join(inline(cell) for cell in cells) + " |")
    rows += ["", inline(words.answer(trial)), inline(words.stopped(trial))]
    if trial.patch:
        rows += ["", "```diff", trial.patch.rstrip("\n"), "```"]
    if trial.by_hand:
        rows += ["", "```python", *trial.by_hand, "```"]
    return "\n".join(rows).rstrip("\n") + "\n"
