"""The report on one screen of a terminal: at most 34 lines of 80 columns, the same words with and without colour.

This is the default output of `mfu-doctor report`. Its order is that of an answer: what limits the run, what to do and where, how
much it brings and how sure that is, then the measurement behind it. The first ten lines can be pasted alone.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.render.terminal import fixes as panel_fixes
from mfu_doctor.render.terminal import panels, top
from mfu_doctor.render.terminal.following import following
from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.panels import Look
from mfu_doctor.render.terminal.screen import Block, fit
from mfu_doctor.render.terminal.tables import appendix
from mfu_doctor.render.words.next_commands import Origin, commands, naming
from mfu_doctor.render.words.text import clean, each_text, to_ascii
from mfu_doctor.result.report import Report

SCREEN_LINES = 34
# Fixes shown in full, whether sentences are whole, how tight it is: the first of these that fits on the screen.
TRIES = (
    *((most, whole, 0) for whole in (True, False) for most in (3, 2, 1)),
    *((1, False, tight) for tight in (1, 2, 3)),
)


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
    shown = _readable(report, screen, origin)
    look = Look(width=screen.width, unicode=screen.unicode, verbose=verbose, origin=origin or Origin())
    lines = fit(_blocks(shown, look), None)
    for most, whole, tight in () if verbose else TRIES:
        lines = fit(_blocks(shown, replace(look, fixes=most, whole=whole, tight=tight)), SCREEN_LINES)
        if len(lines) <= SCREEN_LINES:
            break
    return shown_on(screen, lines)


def render_finding(report: Report, rule: str, *, screen: Abilities | None = None, origin: Origin | None = None) -> str:
    """What one rule said about a run, with all its numbers: a finding as `-v` shows it, else why there is none.

    Args:
        report: the result.
        rule: the name of a rule.
        screen: what the stream can show; if None, plain ASCII with 80 columns.
        origin: where the report comes from, for the commands in its fix.
    """
    screen = screen or Abilities()
    shown = _readable(report, screen, origin)
    look = Look(width=screen.width, unicode=screen.unicode, verbose=True, origin=origin or Origin())
    return shown_on(screen, fit(panel_fixes.one(shown, rule, look), None))


def _readable(report: Report, screen: Abilities, origin: Origin | None) -> Report:
    """The report with texts that this screen can show, and the trace's name in the commands of its fixes."""
    name = naming(report, origin)
    letters = clean if screen.unicode else lambda text: to_ascii(clean(text))
    shown: Report = each_text(_without_bulk(report), lambda text: letters(name(text)))
    return shown


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
        following(commands(report, look.origin), look),
    ]


def _without_bulk(report: Report) -> Report:
    """The report without the parts that a terminal never shows, so that cleaning its texts is cheap."""
    return replace(report, drawing=None, samples=())
