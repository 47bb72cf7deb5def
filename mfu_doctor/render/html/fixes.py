"""What the page says about each finding: the fix, its saving, its evidence, and parts of the rule's docstring.

The text under "How the gain is predicted" and "When it is wrong" is the docstring, which `explain` prints too.
"""

from __future__ import annotations

import textwrap

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.quantities import parts
from mfu_doctor.render.words import labels, wording
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words.text import EM_DASH, EN_DASH
from mfu_doctor.render.words.trial import tried_for
from mfu_doctor.result.findings import FAILED, Diagnosis
from mfu_doctor.result.report import Report
from mfu_doctor.rules.contract import HEADINGS

# Sections of a rule's documentation that the page shows with a finding. `explain` prints all of them.
SHOWN_HEADINGS = ("Why it costs", "How the gain is predicted", "When it is wrong")


class Fix(Struct, frozen=True):
    """One finding with everything that a reader needs to decide about it."""

    diagnosis: Diagnosis
    number: int
    saves: str
    sure: str
    decides: str
    tried: list[str]
    mfu_after: str
    after_others: str
    step_after: str
    tags: tuple[str, ...]
    evidence: tuple[tuple[str, str, str], ...]  # name, value, place
    sections: tuple[tuple[str, tuple[tuple[bool, str], ...]], ...]  # heading, paragraphs as (is code, text)
    symptoms: tuple[Diagnosis, ...]

    @property
    def has_places(self) -> bool:
        """Whether any evidence has a source line."""
        return any(place for _, _, place in self.evidence)


class PlanLine(Struct, frozen=True):
    """One row of the plan's table."""

    number: int
    rule: str
    step: str
    saves: str
    mfu: str
    note: str  # after which fix it saves time, if it saves too little alone
    fix: str  # the code, if the fix is not in the list above


def fixes(report: Report) -> tuple[Fix, ...]:
    """Root causes among the failed rules, best first, each with the findings that it causes."""
    documents = _rule_documents()
    return tuple(_fix(report, found, index, documents) for index, found in enumerate(report.failed, 1))


def plan_lines(report: Report) -> tuple[PlanLine, ...]:
    """The rows of the plan: each has one more fix."""
    if report.savings_are_shares:
        return ()
    unlisted = {found.rule: found.fix or "" for found in plan_wording.unlisted_fixes(report)}
    steps = zip(report.plan.steps, plan_wording.steps_after(report), strict=True)
    return tuple(
        PlanLine(
            number=number,
            rule=step.rule,
            step=parts.part_alone(after, report.step_s),
            saves=parts.part_alone(step.saving_s, report.step_s),
            mfu=EM_DASH if step.mfu is None else quantities.percent_range(step.mfu, step.mfu),
            note=f"saves time only after {step.pays_after}" if step.pays_after else "",
            fix=unlisted.get(step.rule, ""),
        )
        for number, (step, after) in enumerate(steps, 1)
    )


def paragraphs(document: str) -> tuple[tuple[bool, str], ...]:
    """Blocks of a rule's documentation as (is code, text). Indented blocks are code; others are joined into one line."""
    out = []
    for block in document.strip("\n").split("\n\n"):
        rows = block.splitlines()
        is_code = bool(rows) and all(row.startswith("    ") or not row.strip() for row in rows)
        words = "\n".join(row[4:] for row in rows) if is_code else " ".join(row.strip() for row in rows)
        if words.strip():
            out.append((is_code, words))
    return tuple(out)


def _fix(report: Report, found: Diagnosis, number: int, documents: dict[str, dict[str, str]]) -> Fix:
    saved = found.saving
    is_told = saved is not None and not report.savings_are_shares and not found.is_question
    document = documents.get(found.rule, {})
    return Fix(
        diagnosis=found,
        number=number,
        saves=wording.saving(report, found, EN_DASH),
        sure=wording.sure(found),
        decides=wording.decided_by(report, found),
        tried=tried_for(report, found.rule),
        mfu_after=wording.mfu_after(found, EN_DASH),
        after_others=plan_wording.after_others(report, found),
        step_after=plan_wording.step_after(report, saved, EN_DASH) if is_told and saved is not None else "",
        tags=labels.fix_tags(found),
        evidence=tuple((e.name, quantities.measure(e.value, e.unit), e.place or "") for e in found.evidence),
        sections=tuple((name, paragraphs(document[name])) for name in SHOWN_HEADINGS if document.get(name)),
        symptoms=tuple(d for d in report.diagnoses if d.explained_by == found.rule and d.status == FAILED),
    )


def _rule_documents() -> dict[str, dict[str, str]]:
    """The documentation of every rule of the catalogue: rule name to heading to text."""
    from mfu_doctor.rules.catalogue import EVERY_RULE

    return {rule.name: _headed(rule.doc) for rule in EVERY_RULE}


def _headed(document: str) -> dict[str, str]:
    """Split a docstring at its fixed headings."""
    out: dict[str, list[str]] = {}
    current: list[str] = []
    for row in document.splitlines():
        heading = row.strip().rstrip(":")
        if heading in HEADINGS:
            current = out.setdefault(heading, [])
        elif set(row.strip()) not in ({"-"}, {"="}):
            current.append(row)
    return {heading: textwrap.dedent("\n".join(rows)) for heading, rows in out.items()}
