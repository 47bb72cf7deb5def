"""What is concluded from a whole report: what limits its numbers, and the verdict. Made again whenever its values change."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from mfu_doctor.diagnosis.caveats import caveats_of
from mfu_doctor.diagnosis.verdict import verdict_of
from mfu_doctor.result.report import Report

R = TypeVar("R", bound=Report)


def concluded(report: R) -> R:
    """The report with its caveats, its verdict and the name that the verdict gives the run.

    Args:
        report: all else of it.
    """
    told = replace(report, caveats=caveats_of(report))
    verdict = verdict_of(told)
    return replace(told, verdict=verdict, bound=verdict.limit.bound if verdict.limit is not None else None)
