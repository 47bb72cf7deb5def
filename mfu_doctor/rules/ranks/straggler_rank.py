"""The same ranks come late to collectives in step after step, and all others wait for them.

What it measures
    For each collective, which rank came last and what the others waited for it. The time of a late rank since all left the
    collective before together is divided by what owns it, and the same of the other members in the middle is taken off: the
    differences sum to the lateness. If another group's collective took longer, the rank that came last there is asked.

Why it costs
    A collective ends when its last rank has come. One slow rank costs the time of all.

How the gain is predicted
    All ranks are replayed together, and the late ones need as much time for themselves as the median of the others at the same
    place of the program. Another rank can be next: what is left of the waiting then is not saved.
    Low: as much as the slowest of the others.

How to fix
    The cause says it: what takes longer on that rank than on the others. If a finding of that rank's own names it, its fix is
    shown. Everything else about the rank is in its own report: mfu-doctor report DIR --rank N.

When it is wrong
    The rule is wrong if the rank was only slow while it was recorded. It needs several recorded steps: in one step, somebody
    always comes last.

References
    https://arxiv.org/abs/2505.05713 (Understanding Stragglers in Large Model Training Using What-if Analysis, OSDI 2025)
"""

from __future__ import annotations

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.lateness_told import evidence_of, fix_of, slow_line
from mfu_doctor.job.across.patterns import pattern_of
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.job.across.words import main_cause, sentence_of
from mfu_doctor.result.job import STRAGGLER
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule


@job_rule("straggler-rank", "RA001", "all ranks wait for the same ones", also=("straggler", "slow-rank"))
def straggler_rank(job: Job) -> JobOutcome:
    """Judge whom the ranks wait for."""
    pattern = pattern_of(job, STRAGGLER)
    if pattern is None:
        return None
    return JobFault(
        summary=sentence_of(job, pattern).rstrip("."),
        fix=fix_of(job, pattern),
        late=pattern.late,
        change=like_the_others(job, pattern.late),
        cause=main_cause(pattern.more_ns),
        place=slow_line(job, pattern),
        evidence=evidence_of(job, pattern),
    )
