"""The first lines of the terminal report: what the reader may not rely on, then the verdict. They can be pasted alone."""

from __future__ import annotations

from mfu_doctor.render.terminal.panels import INDENT, Look
from mfu_doctor.render.terminal.screen import Block, line
from mfu_doctor.render.words import caveats as caveat_words
from mfu_doctor.render.words.text import wrap
from mfu_doctor.result.report import Report

MOST = 3  # caveats that stand first; the rest stands with the cautions
LINES = 2  # of each on the first screen; one alone may take one more
VERDICT_LINES, LEAST_LINES = 6, 3  # all other sentences are cut before this one
_OF_FIXES = 2  # see `Look.tight`
_NEVER_LEFT_OUT = 2  # sentences of the verdict


def caveats(report: Report, look: Look) -> list[Block]:
    """What makes figures or advice wrong, each with its remedy."""
    found = caveat_words.first_caveats(report)
    most = look.at_most(LINES + (len(found) == 1))
    rows = [
        row for text, remedy in (found if look.verbose else found[:MOST]) for row in _caveat(text, remedy, look, most)
    ]
    return [Block(tuple(line(INDENT + row, "head") for row in rows))]


def _caveat(text: str, remedy: str, look: Look, most: int | None) -> list[str]:
    """One of them, with its remedy if there is room in so many lines: a line to paste is not cut."""
    room = look.width - len(INDENT) - len("! ")
    whole = wrap(caveat_words.caveat(text, remedy), room)
    if remedy and len(whole) > 1:  # a line to paste is whole on a line of its own
        whole = [*wrap(f"{text.rstrip('.')}.", room), *wrap(caveat_words.better(remedy), room)]
    told = whole if most is None or len(whole) <= most else wrap(text, room, lines=most)
    return [f"! {row}" if index == 0 else row for index, row in enumerate(told)]


def verdict(report: Report, look: Look) -> list[Block]:
    """What limits the run, and what to do first."""
    if report.verdict is None:
        return []
    lines, room = look.at_most(LEAST_LINES if look.tight > _OF_FIXES else VERDICT_LINES), look.width - len(INDENT)
    rows = wrap(_whole_sentences(report.verdict.sentence, room, lines), room, lines=lines)
    return [Block(tuple(line(INDENT + row, "head") for row in rows))]


def _whole_sentences(text: str, room: int, lines: int | None) -> str:
    """The first sentences that fit in so many lines; what limits a run and what to do first, whether they fit or not."""
    told = text
    while lines is not None and len(wrap(told, room)) > lines and told.count(". ") >= _NEVER_LEFT_OUT:
        told = f"{told.rstrip('.').rpartition('. ')[0]}."
    return told
