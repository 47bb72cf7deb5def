"""What a finding about late ranks rests on, and where to look if none of their own findings names a fix."""

from __future__ import annotations

from statistics import fmean, median

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.job.across.words import main_cause, owner_times, owner_words
from mfu_doctor.result.findings import Evidence

_SHOWN = 3  # owners with most of the lateness
_LEAST = 0.1  # of the lateness
_EXPLAINS = 0.5  # of what takes longer there


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


def slow_line(job: Job, pattern: Pattern) -> str | None:
    """The user's line that computes longer on the late ranks than on the others, if it explains why they are late."""
    cause = main_cause(pattern.more_ns)
    if cause is None or not cause.startswith("compute"):
        return None
    each = [{line.place: line.seconds for line in one.report.code_lines} for one in job.summaries]
    theirs = [lines for place, lines in enumerate(each) if place in pattern.late]
    others = [lines for place, lines in enumerate(each) if place not in pattern.late]
    if not others:
        return None
    longer = {
        line: fmean(lines.get(line, 0.0) for lines in theirs) - median(lines.get(line, 0.0) for lines in others)
        for line in dict.fromkeys(line for lines in theirs for line in lines)
    }
    line = max(longer, key=lambda one: longer[one], default=None)
    there, elsewhere = owner_times(job, cause, pattern.late)
    return line if line is not None and longer[line] >= _EXPLAINS * max(there - elsewhere, 0.0) else None


def fix_of(job: Job, pattern: Pattern) -> str:
    """The report of a late rank, which says more about it."""
    return f"mfu-doctor report {job.source} --rank {job.ranks[pattern.late[0]]}"
