"""Where a report comes from, for the commands that it ends with: the input as the user wrote it, and the ranks beside it."""

from __future__ import annotations

from mfu_doctor.inputs.ranks import folder_of_run, pattern_of_run
from mfu_doctor.render.words.next_commands import Origin
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report

_SEVERAL = 2  # ranks


def origin_of(source: str | None, report: Report | JobReport, *, is_saved: bool) -> Origin:
    """The origin of a report.

    Args:
        source: the input as the user wrote it; None: several.
        report: what was read from it.
        is_saved: whether that is a saved report, beside which no traces are.
    """
    if source is None or is_saved or isinstance(report, JobReport) or (report.run.world_size or 1) < _SEVERAL:
        return Origin(source, is_saved)
    folder = folder_of_run(source)
    return Origin(source, folder=folder, ranks=None if folder is not None else pattern_of_run(source, report.run.rank))
