"""From the traces of a run to its `JobReport`: find the ranks, reduce each where an executor runs it, and join them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from msgspec import Struct

from mfu_doctor.errors import NotATraceError
from mfu_doctor.inputs.choose import about_others
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.ranks import Found, find_ranks
from mfu_doctor.inputs.settings import Settings, settings_here
from mfu_doctor.job.executors import Progress, read_all
from mfu_doctor.job.join.join import join
from mfu_doctor.job.read_rank import RankTask
from mfu_doctor.job.same_run import of_one_run
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.reading.remote import is_address
from mfu_doctor.result.job import JobReport, RankLeftOut
from mfu_doctor.result.report import Report
from mfu_doctor.rules.catalogue import JOB_RULES, choose

FEWEST = 2  # ranks that can be compared

Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class DiagnosedJob(Struct, frozen=True):
    """A job's report, the report of each rank for its own page, and one sentence each on what is there and was not read."""

    report: JobReport
    ranks: dict[int, Report]
    notes: tuple[str, ...] = ()


def diagnose_job(
    sources: Places,
    stated: Overrides | None = None,
    *,
    settings: Settings | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> DiagnosedJob:
    """Diagnose all ranks of a run together.

    Args:
        sources: a directory, a folder of a store, a pattern with `*`, or the traces one by one.
        stated: what the user states; it holds for every rank.
        settings: what pyproject.toml says; None: the nearest one above the working directory.
        executor: where the ranks are read; None: in processes of this machine.
        progress: called with the number of ranks that are done, and of all.

    Raises:
        DoctorError: fewer than two ranks of one run could be read.
    """
    named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    given = stated or Overrides()
    rules = choose(JOB_RULES, select=given.select, ignore=given.ignore)  # a wrong name fails before a gigabyte is read
    found = find_ranks(named)
    summaries, left_out = read_ranks(found, given, settings, executor, progress)
    if len(summaries) < FEWEST:
        raise _too_few(found, summaries, left_out)
    report = join(summaries, source=shown_source(named), left_out=left_out, rules=rules)
    ranks = {summary.rank: summary.report for summary in summaries if summary.rank is not None}
    return DiagnosedJob(report, ranks, about_others(found))


def read_ranks(
    found: Found, stated: Overrides, settings: Settings | None, executor: Executor | None, progress: Progress | None
) -> tuple[tuple[RankSummary, ...], tuple[RankLeftOut, ...]]:
    """The ranks of one run, each reduced to its summary, and what is no part of it with the reason."""
    known = settings_here() if settings is None else settings
    tasks = [RankTask(_absolute(f.location), f.rank, f.size_bytes, stated, known) for f in found.ranks]
    read = read_all(tasks, executor, progress)
    newest_first = sorted(zip(found.ranks, read, strict=True), key=lambda pair: -pair[0].written_ns)
    run = of_one_run([outcome for _, outcome in newest_first if isinstance(outcome, RankSummary)])
    unread = tuple(outcome for outcome in read if isinstance(outcome, RankLeftOut))
    return run.ranks, (*unread, *run.left_out)


def shown_source(named: Sequence[str | os.PathLike[str]]) -> str:
    """How the sources are called in the report."""
    first = os.fspath(named[0])
    return first if len(named) == 1 else f"{first} and {len(named) - 1} more"


def _absolute(location: str) -> str:
    """A location that is the same for a worker that runs in another directory."""
    return location if is_address(location) else str(Path(location).absolute())


def _too_few(found: Found, summaries: Sequence[RankSummary], left_out: Sequence[RankLeftOut]) -> NotATraceError:
    there = f"{len(summaries)} of {len(found.ranks)} ranks could be read, which is no job"
    first = next((f"{out.trace}: {out.reason}" for out in left_out), "")
    remedy = "pass the traces of at least two ranks of one run"
    return NotATraceError(f"{there} ({first})" if first else there, remedy)
