"""The report of a job on one screen of a terminal: which rank, why, what the job would gain; then what that rests on.

The panels that a job has in common with one run are those of one run.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.render.terminal import fixes as panel_fixes
from mfu_doctor.render.terminal import panels, top
from mfu_doctor.render.terminal.following import following
from mfu_doctor.render.terminal.job_panels import blames, collectives, header, method, number, ranks
from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.panels import Look
from mfu_doctor.render.terminal.screen import Block, Line, fit
from mfu_doctor.render.terminal.terminal import SCREEN_LINES, TRIES
from mfu_doctor.render.words.next_commands import Origin, job_commands
from mfu_doctor.render.words.text import clean, each_text, to_ascii
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run
from mfu_doctor.result.report import Report


def render_job(
    job: JobReport, *, screen: Abilities | None = None, verbose: bool = False, origin: Origin | None = None
) -> str:
    """The report of a job as text for a terminal.

    Args:
        job: the result to show.
        screen: what the stream can show; if None, plain ASCII with 80 columns, as for a pipe.
        verbose: everything instead of one screen.
        origin: where the report comes from, for the next commands.
    """
    screen = screen or Abilities()
    letters = clean if screen.unicode else lambda text: to_ascii(clean(text))
    shown: JobReport = each_text(replace(job, arrivals=(), strips=()), letters)
    look = Look(width=screen.width, unicode=screen.unicode, verbose=verbose, origin=origin or Origin())
    lines = _fitting(shown, look)
    return shown_on(screen, lines if screen.unicode else [_spelled(row) for row in lines])


def _fitting(job: JobReport, look: Look) -> list[Line]:
    lines = fit(_blocks(job, look), None)
    for most, whole, tight in () if look.verbose else TRIES:
        lines = fit(_blocks(job, replace(look, fixes=most, whole=whole, tight=tight)), SCREEN_LINES)
        if len(lines) <= SCREEN_LINES:
            break
    return lines


def _answer(job: JobReport, run: Report, look: Look) -> list[Block]:
    """Who is late and what to fix: first what the first sentence begins with."""
    late, fixes = blames(job, look), panel_fixes.fixes(run, look)
    is_other = bool(job.findings) and not job.findings[0].is_about_ranks
    return [*fixes, *late] if is_other else [*late, *fixes]


def _spelled(row: Line) -> Line:
    """A line in ASCII: the words of the tables have dashes for what is not known."""
    return tuple(span._replace(text=to_ascii(span.text)) for span in row)


def _blocks(job: JobReport, look: Look) -> list[Block]:
    """All sections in their fixed order."""
    run = as_run(job)
    return [
        header(job, look),
        *top.caveats(run, look),
        *top.verdict(run, look),
        *_answer(job, run, look),
        number(job, look),
        *([panels.where(run, look)] if look.verbose else []),
        *collectives(job, look),
        *ranks(job, look),
        *method(job, look),
        *panels.caution(run, look),
        following(job_commands(job, look.origin), look),
    ]
