"""What the gate says: one `Check` per budget, structural count and rule, and the `Verdict` with its exit code.

The verdict is to `check` what the report is to `report`: one object, and every format (checklist, annotations, JUnit,
JSON) is a pure function of it. Its text is written to be read in a failed assert.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from mfu_doctor.json_text import json_bytes
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Saving

SCHEMA = 1

PASSED = "passed"
FAILED = "failed"
WARNING = "warning"  # a rule at level warn found something
INCONCLUSIVE = "inconclusive"  # beyond the budget, within the noise (or not measurable): more runs would decide
NOT_MEASURED = "not measured"
STATUSES = (FAILED, INCONCLUSIVE, WARNING, NOT_MEASURED, PASSED)

EXIT_OK, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2
NEW, OLD = "new since the baseline", "as in the baseline"
NO_STEPS = "whole trace"  # a `Run.steps_source`, too
LISTED = 6  # names in a line that lists what passed or was not measured


class Check(Struct, frozen=True, kw_only=True):
    """One line of the checklist.

    Attributes:
        name: as written in the configuration ("step-time", "input-bound").
        kind: budget, structure or rule.
        status: one of `STATUSES`.
        title: the measure with its statistic ("step time, median of 15").
        summary: one sentence with this run's number, the budget and how sure it is.
        unit: s, share or count, of `value`, `limit`, `baseline` and the spreads.
        limit: the budget as an absolute number; `at_least` says which side of it is good.
        budget: the budget as the user wrote it ("+5%"), None for rules.
        spread: median absolute deviation of the samples behind `value`; None with fewer than three of them.
        note: what qualifies the status: why it is inconclusive, or what a pass could not have seen; part of `summary`.
        change: `value` against `baseline`: relative for seconds, else the difference.
        sure: how the amount of `saving` is known: measured, modelled, guessed.
        places: where in the user's code ("train.py:41"), most relevant first.
        is_new: of a finding: whether the baseline did not have it; None without a baseline, and where it was not judged there.
    """

    name: str
    kind: str
    status: str
    title: str
    summary: str
    unit: str = ""
    value: float | None = None
    limit: float | None = None
    at_least: bool = False
    budget: str | None = None
    baseline: float | None = None
    spread: float | None = None
    baseline_spread: float | None = None
    change: float | None = None
    note: str | None = None
    fix: str | None = None
    saving: Saving | None = None
    sure: str | None = None
    places: tuple[str, ...] = ()
    is_new: bool | None = None

    @property
    def since(self) -> str:
        """Whether the finding is new, in words; empty if it is not known."""
        return "" if self.is_new is None else NEW if self.is_new else OLD


class Judged(Struct, frozen=True, kw_only=True):
    """What was judged: the runs, their device and the baseline."""

    runs: tuple[str, ...]
    steps: int  # samples behind the step time
    step_source: str  # timed (un-profiled), trace (profiled) or whole trace (no step is marked)
    device: str | None = None
    torch: str | None = None
    site: str | None = None  # file:line where profile() was written
    sentence: str | None = None  # what limits the run, and what to do first: the verdict of its report
    baseline: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # keys in which the baseline was allowed to differ


class Verdict(Struct, frozen=True, kw_only=True):
    """The outcome of a check: ``assert report.check(mfu="30%").ok``.

    Attributes:
        checks: worst first; within a status budgets, then structure, then rules with the largest saving first.
        strict: whether an inconclusive check fails.
        cautions: what a reader must know about the numbers.
    """

    checks: tuple[Check, ...]
    judged: Judged
    strict: bool = False
    cautions: tuple[str, ...] = field(default=())

    def with_status(self, *statuses: str) -> tuple[Check, ...]:
        """Checks of these statuses, in order."""
        return tuple(check for check in self.checks if check.status in statuses)

    def fails(self, check: Check) -> bool:
        """Whether this check makes the verdict fail."""
        return check.status == FAILED or (self.strict and check.status == INCONCLUSIVE)

    def unmeasured(self) -> list[str]:
        """What was not measured: each budget with its reason, and all rules together, with the reason if they have one alone."""
        found = self.with_status(NOT_MEASURED)
        rules = [check for check in found if check.kind == "rule"]
        told = [f"not measured: {check.name}: {check.summary}" for check in found if check.kind != "rule"]
        reasons = {check.summary for check in rules}
        why = reasons.pop() if len(reasons) == 1 else f"{len(rules)} rules, --format json tells why"
        return [*told, f"not measured: {some_of([check.name for check in rules])}: {why}"] if rules else told

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that make the verdict fail, in order."""
        return tuple(check for check in self.checks if self.fails(check))

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def exit_code(self) -> int:
        """0 if all checks pass or only warn, 1 if one failed; runs that cannot be checked (2) raise DoctorError."""
        return EXIT_OK if self.ok else EXIT_FAILED

    @property
    def headline(self) -> str:
        """The outcome in one line: "failed: step-time, input-bound (1 inconclusive, 2 warnings, 9 passed)"."""
        counts = [
            (INCONCLUSIVE, "{} inconclusive"),
            (WARNING, counted(len(self.with_status(WARNING)), "warning")),
            (PASSED, "{} passed"),
            (NOT_MEASURED, "{} not measured"),
        ]
        rest = ", ".join(
            words.format(len(self.with_status(status))) for status, words in counts if self.with_status(status)
        )
        if self.ok:
            return f"passed ({rest})" if rest else "passed (no checks were configured)"
        names = ", ".join(check.name for check in self.failures)
        return f"failed: {names}" + (f" ({rest})" if rest else "")

    def to_json(self) -> bytes:
        """The verdict as UTF-8 JSON: all that the other formats show, in SI units, formatted only inside sentences."""
        import msgspec

        head = {
            "schema": SCHEMA,
            "tool": "mfu-doctor",
            "ok": self.ok,
            "exit_code": self.exit_code,
            "headline": self.headline,
        }
        body = msgspec.to_builtins(self)
        return json_bytes(head | body, indent=1)

    def __str__(self) -> str:
        lines = [f"mfu-doctor check {self.headline}"]
        lines += [f"  {self.judged.sentence}"] if self.judged.sentence else []
        for check in self.with_status(FAILED, INCONCLUSIVE, WARNING):
            lines += _lines(check)
        passed = [check.name for check in self.with_status(PASSED)]
        if passed:
            lines.append(f"  passed: {some_of(passed)}")
        lines += [f"  {told}" for told in self.unmeasured()]
        lines += [f"  caution: {text}" for text in self.cautions]
        return "\n".join(lines)


def some_of(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _lines(check: Check) -> list[str]:
    lines = [f"  {check.status}: {check.name}: {check.summary}"]
    lines += [f"      {check.since}"] if check.since else []
    lines += [f"      at {place}" for place in check.places]
    if check.fix:
        lines += [f"      {line}" for line in check.fix.splitlines()]
    return lines
