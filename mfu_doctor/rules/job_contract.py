"""What a rule about ranks is: as a rule about a run (`contract`), but it is asked about a `Job`, all ranks of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.job.across.edits import JobChange
from mfu_doctor.job.across.job import Job
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Confidence, Skip, check_place
from mfu_doctor.rules.families import Family, family_of
from mfu_doctor.rules.needs import Need


class JobFault(Struct, frozen=True, kw_only=True):
    """A fault of a job.

    Attributes:
        summary: one sentence with the number of this job.
        fix: a line to paste; that of a late rank's own finding takes its place if one names the cause.
        late: places of the ranks that it is about; () all.
        change: what would be different without it; None: `reason` says why that is not known.
        evidence: numbers with units.
        cause: the owner of the time that a late rank needs more than the others; its own findings about it name the fix.
        place: the user's file:line, if known.
        confidence: how well the saving is known.
        reason: why it has no saving.
    """

    summary: str
    fix: str
    late: tuple[int, ...] = ()
    change: JobChange | None = None
    evidence: tuple[Evidence, ...] = ()
    cause: str | None = None
    place: str | None = None
    confidence: Confidence = "modelled"
    reason: str | None = None


JobOutcome: TypeAlias = JobFault | Skip | None


class JobRule(Struct, frozen=True):
    """A rule about ranks as the catalogue lists it; the fields are those of `Rule`."""

    name: str
    code: str
    title: str
    judge: Callable[[Job], JobOutcome]
    doc: str
    also: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """Where the time goes that this rule is about."""
        return family_of(self.code)

    @property
    def caution(self) -> bool:
        """No rule about ranks judges a trace."""
        return False

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it needs of each rank's run beyond being read: nothing."""
        return ()


def job_rule(
    name: str, code: str, title: str, *, also: tuple[str, ...] = ()
) -> Callable[[Callable[[Job], JobOutcome]], JobRule]:
    """Make a function into a `JobRule`; its module's docstring is its documentation.

    Args:
        name: the file's name with dashes.
        code: the letters of its family and three digits, never reused.
        title: the fault in a few words.
        also: other names that people use for the fault or its fix.

    Raises:
        ValueError: the file is not where its name and code say.
    """

    def wrap(judge: Callable[[Job], JobOutcome]) -> JobRule:
        check_place(judge.__module__, name, code)
        return JobRule(name, code, title, judge, sys.modules[judge.__module__].__doc__ or "", also)

    return wrap
