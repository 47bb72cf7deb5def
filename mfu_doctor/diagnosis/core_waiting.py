"""Operators that mostly wait for a core: what they take is no computing, and limits no run as that would."""

from __future__ import annotations

from mfu_doctor.result.bottleneck import BOUND_SHARE, BUCKET_OF, bound_by
from mfu_doctor.result.findings import FAILED
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import Breakdown
from mfu_doctor.rules.host.crowded_cores import LONGER, crowded_cores

WAITING = "in operators, most of it waiting for a core"


def mostly_waits(report: Report) -> bool:
    """Whether operators of a CPU-only run would take less than half as long if their threads did not wait for a core."""
    found = report.diagnosis(crowded_cores.name)
    if report.device.kind != "cpu" or found is None or found.status != FAILED:
        return False
    longer = next((one.value for one in found.evidence if one.name == LONGER), None)
    return isinstance(longer, float) and longer > BOUND_SHARE * report.breakdown.compute > 0


def bound_of(report: Report, split: Breakdown) -> str | None:
    """The name of a run for what has most of its step; None also for operators that mostly wait for a core."""
    name = bound_by(split)
    return None if BUCKET_OF.get(name or "") == "compute" and mostly_waits(report) else name
