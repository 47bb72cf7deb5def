"""What the page says about each finding: the fix, its price, its evidence, and why to believe it, in the rule's own words.

The text under "how the gain is predicted" and "when it is wrong" is the rule's docstring: `explain` prints the same words.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from mfu_doctor import quantities
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words import wording
from mfu_doctor.render.words.text import EM_DASH, EN_DASH
from mfu_doctor.result.findings import FAILED, Diagnosis, PlanStep
from mfu_doctor.result.report import Report
from mfu_doctor.rules.contract import HEADINGS

# Sections of a rule's documentation that a reader of one finding needs; the rest is printed by `explain`.
SHOWN_HEADINGS = ("Why it costs", "How the gain is predicted", "When it is wrong")


@dataclass(frozen=True, slots=True)
class Fix:
    """One finding with everything that a person needs to judge it."""

    diagnosis: Diagnosis
    number: int
    saves: str
    mfu_after: str
    step_after: str
    tags: tuple[str, ...]
    evidence: tuple[tuple[str, str, str], ...]  # name, value, place
    sections: tuple[tuple[str, tuple[tuple[bool, str], ...]], ...]  # heading, paragraphs as (is code, text)
    symptoms: tuple[Diagnosis, ...]

    @property
    def has_places(self) -> bool:
        """Whether any evidence says where."""
        return any(place for _, _, place in self.evidence)


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One row of the plan's table."""

    number: int
    rule: str
    step: str
    saves: str
    mfu: str
    note: str  # after which fix it pays, where it does not alone
    fix: str  # to paste, where the fix is not among the listed ones


def fixes(report: Report) -> tuple[Fix, ...]:
    """Failed rules that nothing else explains, best first, each with its symptoms."""
    documents = _rule_documents()
    return tuple(_fix(report, found, index, documents) for index, found in enumerate(report.failed, 1))


def plan_lines(report: Report) -> tuple[PlanLine, ...]:
    """The cumulative plan as a table."""
    unlisted = {found.rule: found.fix or "" for found in plan_wording.unlisted_fixes(report)}
    return tuple(_plan_line(step, index, unlisted) for index, step in enumerate(report.plan.steps, 1))


def paragraphs(document: str) -> tuple[tuple[bool, str], ...]:
    """Blocks of a rule's documentation as (is code, text): indented blocks are code, others are joined into one line."""
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
    after = ""
    if saved is not None and saved.step_low_s is not None and saved.step_high_s is not None:
        ends = sorted((saved.step_low_s, saved.step_high_s))
        after = quantities.duration_range(ends[0], ends[1], dash=EN_DASH)
    labels = (
        f"effort: {found.effort}" if found.effort else "",
        f"numerics: {wording.RISKS.get(found.risk, 'unchanged')}" if found.risk else "",
        f"{found.confidence}" if found.confidence else "",
    )
    document = documents.get(found.rule, {})
    return Fix(
        diagnosis=found,
        number=number,
        saves=wording.saving(found, EN_DASH),
        mfu_after=wording.mfu_after(found, EN_DASH),
        step_after=after,
        tags=tuple(label for label in labels if label),
        evidence=tuple((e.name, quantities.measure(e.value, e.unit), e.place or "") for e in found.evidence),
        sections=tuple((name, paragraphs(document[name])) for name in SHOWN_HEADINGS if document.get(name)),
        symptoms=tuple(d for d in report.diagnoses if d.explained_by == found.rule and d.status == FAILED),
    )


def _rule_documents() -> dict[str, dict[str, str]]:
    """The documentation of every rule of the catalogue: rule name to heading to text."""
    from mfu_doctor.rules.catalogue import RULES

    return {rule.name: _headed(rule.doc) for rule in RULES}


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


def _plan_line(step: PlanStep, number: int, unlisted: dict[str, str]) -> PlanLine:
    return PlanLine(
        number=number,
        rule=step.rule,
        step=quantities.duration(step.step_s, 2),
        saves=quantities.duration(step.saving_s, 2),
        mfu=EM_DASH if step.mfu is None else quantities.percent_range(step.mfu, step.mfu),
        note=f"pays after {step.pays_after}" if step.pays_after else "",
        fix=unlisted.get(step.rule, ""),
    )
