"""What the short values of a report mean in words: effort, confidence and risk of a fix, step boundaries."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mfu_doctor.result.findings import SURE, SURE_IN_SHORT, Diagnosis
from mfu_doctor.result.report import Report

RISKS = {"rounding": "changes rounding", "convergence": "may change convergence"}
EFFORTS = {"setting": "change of settings", "line": "one-line change", "refactor": "code restructuring"}
# No risk; of code that is restructured it depends on how that is done (samples that are kept: whether they were drawn at random).
UNCHANGED, MAY_STAY = "results unchanged", "results need not change"
STEPS_FOUND_BY = {"optimizer": "optimizer steps", "periodicity": "repeated kernels"}

REPLAY = "Savings are predicted by replay: the recorded timeline is simulated again with the problem removed."
REPLAY_ERROR = "The replay error is the simulated step of the unchanged run against the measured step."
OVERLAP = "The shares of all kernels add up to more than 100 %, because some kernels run at the same time."


def marks(used: Collection[str]) -> list[str]:
    """What these marks of an amount mean, least sure first: "modelled: what stays of the measured loss is calculated"."""
    return [f"{mark}: {meaning}" for mark, meaning in reversed(SURE.items()) if mark in used]


def marks_in_a_line(used: Collection[str]) -> str:
    """What these marks mean, short enough for one line of 80 columns; empty if there is none."""
    known = marks(used)
    short = (f"{mark}: {meaning}" for mark, meaning in reversed(SURE_IN_SHORT.items()) if mark in used)
    return known[0] if len(known) == 1 else "; ".join(short)


def replayed(found: Sequence[Diagnosis]) -> str:
    """How the savings of these fixes were predicted, and what the marks of their amounts mean."""
    used = marks({d.sure for d in found if d.saving is not None or d.throughput_gain is not None})
    return f"{REPLAY} Amounts: {'; '.join(used)}." if used else REPLAY


def is_job(report: Report) -> bool:
    """Whether it is of all ranks; the reports of its ranks tell more."""
    return report.run.rank is None and (report.run.world_size or 1) > 1


def rank(report: Report) -> str:
    """Which rank of how many it is of: "rank 0 of 8"; empty if it is of no rank of several."""
    run = report.run
    return f"rank {run.rank} of {run.world_size}" if (run.world_size or 1) > 1 and run.rank is not None else ""


def no_lines(report: Report) -> str:
    """Why no fix has a file and line, and what would tell; empty if one has, or if the stacks that were recorded name none."""
    run = report.run
    if is_job(report) or not report.failed or any(found.place for found in report.failed) or report.code_lines:
        return ""
    if run.captured or run.settings.get("with_stack"):
        return f"lines of code: no line stands out in the program that recorded at {run.site}" if run.site else ""
    modules = "; its modules are known (-v)" if report.modules else ""
    return f"lines of code: stacks were not recorded (with_stack=True, or mfu-doctor run){modules}"


def risk(found: Diagnosis) -> str:
    """What a fix changes apart from the time; empty if it changes nothing else, or is a question."""
    return "" if found.is_question else RISKS.get(found.risk or "", "")


def fix_tags(found: Diagnosis) -> tuple[str, ...]:
    """How a fix is meant, in words: how its saving is known, what it asks of the user, and whether results change."""
    same = MAY_STAY if found.effort == "refactor" else UNCHANGED
    does = risk(found) or (same if found.risk and not found.is_question else "")
    known = (
        f"{found.sure}: {SURE[found.sure]}" if found.saving or found.throughput_gain is not None else "",
        EFFORTS.get(found.effort, found.effort) if found.effort and not found.is_question else "",
        does,
    )
    return tuple(words for words in known if words)
