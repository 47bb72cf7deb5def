"""What a worker does, wherever it is: read one rank's trace and reduce it to a `RankSummary`. No event leaves the worker."""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.run import Run
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.report_on import options_for
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.job.rank.summarize import summarize
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.reading import read_trace
from mfu_doctor.result.job import RankLeftOut
from mfu_doctor.rules.catalogue import RULES, choose


class RankTask(Struct, frozen=True):
    """One rank to read: it travels to the worker.

    Attributes:
        location: the trace, a path that the worker can open or an address in a store.
        rank: whose it is, as far as its name tells.
        size_bytes: of the file.
        stated: what the user stated.
        settings: what pyproject.toml states where the user is.
    """

    location: str
    rank: int | None
    size_bytes: int
    stated: Overrides
    settings: Settings


def read_rank(task: RankTask) -> RankSummary | RankLeftOut:
    """The summary of a rank, or why there is none: one rank that cannot be read never ends the diagnosis of the others."""
    try:
        trace = read_trace(task.location)
        run = Run(trace, options_for(trace, task.stated, task.settings))
        rules = choose(RULES, select=task.stated.select, ignore=task.stated.ignore)
        return summarize(run, rank=task.rank, rules=rules)
    except DoctorError as error:
        return left_out(task, error.problem)


def left_out(task: RankTask, reason: str) -> RankLeftOut:
    """The rank of a task, left out for this reason."""
    return RankLeftOut(reason=reason, rank=task.rank, trace=task.location.rpartition("/")[2])
