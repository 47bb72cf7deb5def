"""The rules in the checklist: each rule that ran becomes one check with the level set for it.

By default a finding is a warning. At level error it fails the check. If a rule at level error could not decide, the check is
inconclusive.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from mfu_doctor.gate.levels import ERROR, OFF, level_of
from mfu_doctor.result import findings as outcome
from mfu_doctor.result.findings import Diagnosis
from mfu_doctor.result.report import Report
from mfu_doctor.result.verdict import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED, STATUSES, WARNING, Check


def rule_checks(reports: Sequence[Report], levels: Mapping[str, str], baseline: Sequence[Report] = ()) -> list[Check]:
    """One check per rule, over all runs: it finds a fault if most runs show it; in the order of the report."""
    names = dict.fromkeys(diagnosis.rule for report in reports for diagnosis in report.diagnoses)
    checks = []
    for name in names:
        said = [diagnosis for report in reports if (diagnosis := report.diagnosis(name)) is not None]
        level = level_of(name, said[0].code, levels)
        if level != OFF and not all(diagnosis.caution for diagnosis in said):
            checks += _check(said, len(reports), level)
    checks.sort(
        key=lambda check: STATUSES.index(check.status)
    )  # stable: within a status as the first report ranks them
    if any(report.savings_are_shares for report in reports):  # their seconds say too much
        checks = [replace(check, saving=None, sure=None) for check in checks]
    found = (FAILED, WARNING)
    return [replace(c, is_new=_is_new(c.name, baseline)) if c.status in found else c for c in checks]


def _is_new(rule: str, baseline: Sequence[Report]) -> bool | None:
    """Whether most runs of the baseline that were judged by this rule do not have its finding; None if none was."""
    said = [diagnosis.status for report in baseline if (diagnosis := report.diagnosis(rule)) is not None]
    failed = said.count(outcome.FAILED)
    judged = failed + said.count(outcome.PASSED) + said.count(outcome.WITHHELD)
    return 2 * failed < judged if judged else None


def _check(said: Sequence[Diagnosis], runs: int, level: str) -> list[Check]:
    """The check of one rule; none if the finding is a symptom listed under its cause and whose level is not error."""
    shown = _typical(said, runs)
    failed = shown.status == outcome.FAILED
    if failed and shown.explained_by is not None and level != ERROR:
        return []
    check = Check(
        name=shown.rule,
        kind="rule",
        status=_status(shown, level),
        title=shown.rule,
        summary=_sentence(shown, said, runs) if failed else (shown.reason or shown.summary),
        fix=shown.fix if failed else None,
        saving=shown.saving if failed else None,
        sure=shown.sure if failed and shown.saving is not None else None,
        places=(shown.place,) if shown.place and failed else (),
    )
    return [check]


def _status(shown: Diagnosis, level: str) -> str:
    if shown.status == outcome.FAILED:
        return FAILED if level == ERROR else WARNING
    if shown.status in (outcome.NOT_MEASURED, outcome.CRASHED):
        return INCONCLUSIVE if level == ERROR else NOT_MEASURED
    return PASSED  # looked and found nothing, or withheld: the fault is there and costs nothing


def _typical(said: Sequence[Diagnosis], runs: int) -> Diagnosis:
    """What most runs say about this rule; of several findings the one with the median saving."""
    failed = [diagnosis for diagnosis in said if diagnosis.status == outcome.FAILED]
    if 2 * len(failed) > runs:
        best = [diagnosis.saving.mid if diagnosis.saving else 0.0 for diagnosis in failed]
        return failed[best.index(statistics.median_low(best))]
    others = [diagnosis for diagnosis in said if diagnosis.status != outcome.FAILED]
    return others[0] if others else failed[0]


def _sentence(shown: Diagnosis, said: Sequence[Diagnosis], runs: int) -> str:
    failed = sum(diagnosis.status == outcome.FAILED for diagnosis in said)
    seen = f" ({failed} of {runs} runs)" if failed < runs else ""
    folded = f"; same cause: {', '.join(shown.explains)}" if shown.explains else ""
    return f"{shown.summary}{seen}{folded}"
