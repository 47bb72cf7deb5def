"""The report of a job as markdown, for pull requests, issues and notes, in the order of the terminal; all text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mfu_doctor import quantities
from mfu_doctor.render.markdown import LONGEST, cautions, fixes, verdict, where
from mfu_doctor.render.words import job as words
from mfu_doctor.render.words import wording
from mfu_doctor.render.words.escape import inline
from mfu_doctor.render.words.next_commands import Origin, job_commands
from mfu_doctor.render.words.text import clean, each_text, shorten
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run

RANKS = 16  # rows of the table
COLLECTIVES = 12


def render_job_markdown(job: JobReport, *, origin: Origin | None = None) -> str:
    """The report as GitHub-flavoured markdown, far below the 64 kB at which GitHub cuts comments.

    Args:
        job: the result to show.
        origin: where the report comes from, for the next commands.
    """
    bare = replace(job, arrivals=(), strips=())
    shown: JobReport = each_text(bare, lambda text: shorten(clean(text), LONGEST))
    run = as_run(shown)
    blocks = [
        _title(shown),
        verdict(run),
        _figures(shown),
        _blames(shown),
        fixes(run),
        where(run),
        _table(words.COLLECTIVE_HEADS, words.collective_rows(words.worth_showing(shown)[:COLLECTIVES])),
        _table(words.RANK_HEADS, [words.rank_cells(line) for line in words.notable_ranks(shown, RANKS)]),
        _rest(shown),
        cautions(run),
        ["```", *(command for command, _ in job_commands(shown, origin)), "```"],
    ]
    return "\n\n".join("\n".join(rows) for rows in blocks if rows) + "\n"


def _title(job: JobReport) -> list[str]:
    run = as_run(job)
    label, step = words.headline(job)[0], wording.step_time(run)[0]
    about = [inline(job.source), words.size_of_job(job), quantities.counted(run.run.steps, "step")]
    about += [inline(run.device.name)] if run.device.name else []
    return [f"### mfu-doctor: {inline(label)}, {inline(step)}", "", " · ".join(about)]


def _figures(job: JobReport) -> list[str]:
    step, how = wording.step_time(as_run(job))
    facts = (words.headline(job), (step, how.replace("+-", "±")), ("ranks wait", words.waiting(job)))
    return [f"- **{inline(name)}**: {inline(value)}" for name, value in facts if value]


def _blames(job: JobReport) -> list[str]:
    rows = [
        (words.blame_title(blame), words.blame_wait(job, blame), quantities.percent(blame.share, 0),
         ", ".join(words.blame_causes(blame)) or blame.sentence, blame.place or "")
        for blame in job.blames
    ]  # fmt: skip
    return _table(("who is late", "ranks wait", "of waiting", "against the others", "where"), rows)


def _rest(job: JobReport) -> list[str]:
    told = [f"With {text}" for text in words.what_ifs(job)] + words.left_out(job)
    told += [f"{name}: {value}" for name, value in words.method(job)[1:]]
    return [f"- {inline(text)}" for text in told]


def _table(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    shown, *others = words.filled(tuple(heads), rows)
    lines = ["| " + " | ".join(shown) + " |", "| --- |" + " ---: |" * (len(shown) - 1)]
    return lines + ["| " + " | ".join(inline(cell) for cell in row) + " |" for row in others]
