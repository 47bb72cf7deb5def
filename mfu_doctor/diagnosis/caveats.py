"""What a reader may not rely on, in one order: what spoils all advice, what spoils figures, then what only limits them.

Rules about the trace say most of it, each with its remedy; the rest are problems of the file, a replay that is off, and notes.
"""

from __future__ import annotations

from mfu_doctor.result.caveats import ADVICE, FIGURES, Caveat
from mfu_doctor.result.findings import FAILED
from mfu_doctor.result.report import Report

_ORDER = (ADVICE, FIGURES, None)
_SAID_BY_HEADLINE = ("unknown-peak", "partial-flop-count")  # cautions that repeat why there is no MFU


def caveats_of(report: Report) -> tuple[Caveat, ...]:
    """Everything that limits a report, each thing once.

    Args:
        report: all else of it.
    """
    told = {d.rule: d for d in report.diagnoses if d.caution and d.status == FAILED and d.summary}
    found = [Caveat(kind="file", text=text) for text in report.problems]
    found += [Caveat(kind=d.rule, text=d.summary, remedy=d.fix, spoils=d.spoils) for d in told.values()]
    predicts = bool(report.plan.steps) or any(d.saving for d in report.diagnoses)
    if report.replay.reason and (predicts or not report.replay.trusted):
        found.append(Caveat(kind="replay", text=report.replay.reason))
    notes = [report.run.steps_note] if report.run.steps_note else []
    found += [Caveat(kind="note", text=text) for text in (*report.cautions, *notes, *report.mfu.notes)]
    repeated = {told[rule].summary for rule in _SAID_BY_HEADLINE if rule in told and report.mfu.value is None}
    if "few-steps" in told:
        few = told["few-steps"]
        repeated |= set(notes) & {few.detail}  # the summary of the rule says the same
        repeated |= {text for text in report.cautions if f"; {text}" in few.summary}
    once: dict[str, Caveat] = {}
    for caveat in found:
        if caveat.text not in repeated:
            once.setdefault(caveat.text, caveat)
    return tuple(sorted(once.values(), key=lambda caveat: _ORDER.index(caveat.spoils)))
