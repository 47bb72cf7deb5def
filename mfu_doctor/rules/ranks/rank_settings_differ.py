"""Some ranks run with other settings than the rest, and come late.

What it measures
    Versions, environment, precision, threads and the device of each rank, and whether the ranks that differ are waited for.

Why it costs
    All ranks do the same work, so a rank with fewer threads, an older library or another card is slower, and all wait for it.

How the gain is predicted
    All ranks are replayed together, and the ranks that differ need as much time for themselves as the median of the others.
    Low: as much as the slowest of the others.

How to fix
    Start all ranks with the same environment: torchrun passes on that of the machine that it runs on, so look at what differs
    between machines, and at code that sets threads or precision by rank.

When it is wrong
    The rule is wrong if ranks differ by design, like the stages of a pipeline, or if the setting does not make the rank late.

References
    https://pytorch.org/docs/stable/elastic/run.html (OMP_NUM_THREADS is set to 1 by torchrun if nothing sets it)
"""

from __future__ import annotations

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import pattern_of
from mfu_doctor.job.across.settings import differing
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.job.across.words import ranks_named
from mfu_doctor.result.job import SLOW_NODE, STRAGGLER
from mfu_doctor.rules.contract import shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule


@job_rule(
    "rank-settings-differ", "RA008", "late ranks run with other settings", also=("mixed-versions", "different-settings")
)
def rank_settings_differ(job: Job) -> JobOutcome:
    """Judge whether the ranks that are waited for have settings of their own."""
    pattern = pattern_of(job, STRAGGLER) or pattern_of(job, SLOW_NODE)
    if pattern is None:
        return None
    found = differing(job, pattern.late)
    if not found:
        return None
    name, theirs, others = found[0]
    who = ranks_named([job.ranks[place] for place in pattern.late])
    has = "has" if len(pattern.late) == 1 else "have"
    return JobFault(
        summary=f"{who[:1].upper()}{who[1:]}, which the others wait for, {has} {name} {theirs}; the others have {others}",
        fix=f"# give {who} the {name} of the others: {others}",
        late=pattern.late,
        change=like_the_others(job, pattern.late),
        evidence=tuple(shown(name, f"{theirs}, the others {others}") for name, theirs, others in found),
        confidence="hint",
    )
