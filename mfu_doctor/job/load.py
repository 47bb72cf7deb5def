"""What a verb reads: one rank's report, or the report of all ranks, from traces or as it was saved.

Several ranks of one run are a job. One trace, one rank that the user names, or a directory with one rank is a report of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.choose import about_others
from mfu_doctor.inputs.load import load_input, load_saved_job, processors
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import STDIN
from mfu_doctor.inputs.ranks import find_ranks, names_many
from mfu_doctor.inputs.settings import Settings, settings_here
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run
from mfu_doctor.result.report import Report

if TYPE_CHECKING:
    from mfu_doctor.job.executors import Progress


class Reader(Struct, frozen=True):
    """How a verb reads its inputs.

    Attributes:
        stated: what the user states.
        settings: what pyproject.toml says; None: the nearest one above the working directory.
        dask: address of a Dask scheduler whose workers read the ranks; None: processes of this machine.
        progress: called with the number of ranks that are done, and of all.
    """

    stated: Overrides = field(default_factory=Overrides)
    settings: Settings | None = None
    dask: str | None = None
    progress: Progress | None = None


class Loaded(Struct, frozen=True):
    """What was read.

    Attributes:
        report: of one rank, or of a job.
        notes: one sentence each on what was chosen, and what is there besides.
        is_saved: whether it is a saved one.
        ranks: of a job that was read from traces, the report of each rank.
    """

    report: Report | JobReport
    notes: tuple[str, ...] = ()
    is_saved: bool = False
    ranks: dict[int, Report] = field(default_factory=dict)


class LoadedRun(Struct, frozen=True):
    """One run, or a job in the form of one, and whether it is a saved report."""

    report: Report
    is_saved: bool


def load(sources: Sequence[str], reader: Reader) -> Loaded:
    """Read what the user named.

    Args:
        sources: one source of any kind, or the ranks of one run.
        reader: how.

    Raises:
        DoctorError: the source is of no known kind, or cannot be read.
    """
    saved = _saved_job(sources[0], reader.stated) if len(sources) == 1 else None
    if saved is not None:
        return Loaded(saved, is_saved=True)
    if STDIN in sources and len(sources) > 1:
        raise DoctorError("standard input is one trace", "pass it alone, or the ranks as files")
    if reader.stated.rank is None and STDIN not in sources and names_many(sources):
        found = find_ranks(sources)
        if len(found.ranks) > 1:
            return _job(sources, reader)
        return _rank(found.ranks[0].location, reader, about_others(found))
    if len(sources) > 1:
        raise DoctorError(f"--rank {reader.stated.rank} takes one directory", "pass the trace of that rank alone")
    return _rank(sources[0], reader)


def load_runs(paths: Sequence[str], reader: Reader) -> list[LoadedRun]:
    """Each of these inputs as one run, for what judges and compares runs: a job in the form of a run.

    Raises:
        DoctorError: one cannot be read, or one is a job and another is not.
    """
    read = [load([path], reader) for path in paths]
    jobs = [path for path, one in zip(paths, read, strict=True) if isinstance(one.report, JobReport)]
    if jobs and len(jobs) < len(paths):
        other = next(path for path in paths if path not in jobs)
        raise DoctorError(f"{jobs[0]} is a job of several ranks, {other} is one rank", "pass all ranks of both runs")
    return [LoadedRun(as_run(it) if isinstance(it := one.report, JobReport) else it, one.is_saved) for one in read]


def _saved_job(source: str, stated: Overrides) -> JobReport | None:
    saved = load_saved_job(source)
    if saved is not None and stated != Overrides():
        raise DoctorError(f"{source} is a saved report of a job, which stays as it is", "pass the traces")
    return saved


def _job(sources: Sequence[str], reader: Reader) -> Loaded:
    from mfu_doctor.job.diagnose import diagnose_job
    from mfu_doctor.job.executors import dask_executor

    with ExitStack() as stack:
        executor = None if reader.dask is None else stack.enter_context(dask_executor(reader.dask))
        made = diagnose_job(
            sources, reader.stated, settings=reader.settings, executor=executor, progress=reader.progress
        )
    return Loaded(made.report, made.notes, ranks=made.ranks)


def _rank(source: str, reader: Reader, others: tuple[str, ...] = ()) -> Loaded:
    known = settings_here() if reader.settings is None else reader.settings
    loaded = load_input(source, reader.stated, settings=known, threads=processors())
    chosen = (f"reporting on {source}",) if others else ()
    return Loaded(loaded.report, (*loaded.notes, *chosen, *others), loaded.is_saved)
