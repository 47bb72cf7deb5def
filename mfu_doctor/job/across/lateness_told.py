"""What a finding about late ranks rests on, and where to look if none of their own findings names a fix."""

from __future__ import annotations

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.job.across.words import owner_words
from mfu_doctor.result.findings import Evidence

_SHOWN = 3  # owners with most of the lateness
_LEAST = 0.1  # of the lateness


def evidence_of(job: Job, pattern: Pattern) -> tuple[Evidence, ...]:
    """What the others wait, and what takes longer on the late ranks."""
    late_ns = sum(pattern.more_ns.values())
    most = sorted(pattern.more_ns.items(), key=lambda item: -item[1])[:_SHOWN]
    found = [Evidence(name="waiting", value=pattern.wait_ns / job.second_ns, unit="s")]
    for owner, more in most:
        if more <= _LEAST * late_ns:
            continue
        found.append(Evidence(name=f"longer: {owner_words(owner)}", value=more / job.second_ns, unit="s"))
    return tuple(found)


def fix_of(job: Job, pattern: Pattern) -> str:
    """The report of a late rank, which says more about it."""
    return f"mfu-doctor report {job.source} --rank {job.ranks[pattern.late[0]]}"
