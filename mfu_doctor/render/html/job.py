"""The report of a job as one page: which rank, why, what the job would gain; ranks over time, arrivals, steps of each rank.

It is a page like that of one run: a single file without network, script or server, from which the report can be loaded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from msgspec.structs import replace

from mfu_doctor.quantities import percent
from mfu_doctor.render.html import page
from mfu_doctor.render.html.html import embedded_json, environment, scope_of, shared_context
from mfu_doctor.render.html.page import LegendEntry
from mfu_doctor.render.html.pictures.ranks import KINDS, NAMES, maps_of, paint_of
from mfu_doctor.render.html.pictures.skew import MOST_SHOWN, draw_rank_steps, draw_skew
from mfu_doctor.render.html.svg import rect, tag
from mfu_doctor.render.words import job as words
from mfu_doctor.render.words.next_commands import Origin, job_commands
from mfu_doctor.render.words.text import clean, each_text
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run

MOST_RANKS = 128  # rows of the table
_DIGITS = 7  # of a time in the data of a page: a tenth of a microsecond in a second


def render_job(job: JobReport, *, origin: Origin | None = None, pages: Mapping[int, str] | None = None) -> str:
    """The report of a job as a complete HTML document, smaller than 2 MB for a thousand ranks.

    Args:
        job: the result to show.
        origin: where the report comes from, for the next commands.
        pages: where the page of each rank is, relative to this one, if there is one.
    """
    data = embedded_json(_slim(job))
    scope = scope_of(data)
    shown: JobReport = each_text(job, clean)
    context = shared_context(as_run(shown), scope) | _context(shown, pages or {})
    context["commands"] = job_commands(shown, origin)
    return environment().get_template("job.html.j2").render(context, data=Markup(data))  # noqa: S704 - escaped there


def _slim(job: JobReport) -> JobReport:
    """What of the report is stored in the page: without the drawing, which is drawn, and with short times."""
    ranks = tuple(replace(row, steps_s=tuple(round(s, _DIGITS) for s in row.steps_s)) for row in job.ranks)
    return replace(job, arrivals=(), strips=(), ranks=ranks)


def _context(job: JobReport, pages: Mapping[int, str]) -> dict[str, Any]:
    lines = words.notable_ranks(job, MOST_RANKS)
    collectives = words.filled(words.COLLECTIVE_HEADS, words.collective_rows(words.worth_showing(job)))
    ranks = words.filled(
        words.RANK_HEADS[:-1], [words.rank_cells(line)[:-1] for line in lines]
    )  # its verdict is beside it
    return {
        "job": job,
        "headline": words.headline(job),
        "facts": _facts(job),
        "waiting": words.waiting(job),
        "blames": [
            (
                words.blame_title(blame),
                blame,
                words.blame_wait(job, blame),
                percent(blame.share, 0),
                ", ".join(words.blame_causes(blame)),
            )
            for blame in job.blames
        ],
        "maps": maps_of(job),
        "map_legend": [LegendEntry(_swatch(kind), NAMES[kind]) for kind in KINDS],
        "skew": draw_skew(job.arrivals),
        "skew_hidden": max(len(job.arrivals) - MOST_SHOWN, 0),
        "rank_steps": draw_rank_steps(job),
        "collective_heads": collectives[0],
        "collectives": collectives[1:],
        "rank_heads": ranks[0],
        "rank_lines": [(row, pages.get(line.row.rank), line.row) for row, line in zip(ranks[1:], lines, strict=True)],
        "ranks_hidden": len(job.ranks) - len(lines),
        "what_ifs": words.what_ifs(job),
        "left_out": words.left_out(job),
        "method": words.method(job),
        "created": page.moment(job.created),
    }


def _swatch(kind: str) -> Markup:
    square = rect(0.5, 0.5, 15, 11, rx=2, class_=paint_of(kind))
    return tag("svg", square, viewBox="0 0 16 12", aria_hidden="true", focusable="false", class_="swatch")


def _facts(job: JobReport) -> tuple[tuple[str, str], ...]:
    """The line under the headline: where the numbers come from."""
    run = as_run(job)
    hosts = len({row.host for row in job.ranks if row.host is not None})
    rows = (
        ("ranks", words.size_of_job(job)),
        ("hosts", str(hosts) if hosts else ""),
        ("device", run.device.name or ""),
        ("source", job.source),
        ("steps", str(run.run.steps)),
        ("report of", page.moment(job.created)),
    )
    return tuple((name, value) for name, value in rows if value)
