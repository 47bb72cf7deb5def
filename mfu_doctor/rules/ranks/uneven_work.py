"""Another rank comes late in each step, because the work of a step differs between ranks.

What it measures
    Who comes last changes from step to step, and the time that a rank needs for itself follows the FLOPs that it computes in that
    step, or the bytes of its collectives of uneven size. Without either, computing that differs between the steps of a rank by
    much more than machines differ says the same.

Why it costs
    A collective ends when its last rank has come. If samples have different lengths, each step takes as long as the longest.

How the gain is predicted
    All ranks are replayed together, and each needs as much time for itself as all do on average at the same place of the program.
    Low: half of the difference, since lengths cannot be divided evenly.

How to fix
    Give all ranks samples of similar length in the same step: sort a few batches by length and deal them out in turns, or pack
    several short samples into one row of fixed length.

When it is wrong
    The rule is wrong if something else varies together with the work, like a loader that reads longer samples for longer.

References
    https://pytorch.org/docs/stable/data.html#torch.utils.data.BatchSampler
"""

from __future__ import annotations

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.lateness_told import evidence_of
from mfu_doctor.job.across.patterns import pattern_of
from mfu_doctor.job.across.what_if import no_skew
from mfu_doctor.job.across.words import sentence_of
from mfu_doctor.result.job import UNEVEN_WORK
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule

_FIX = (
    "# deal samples of similar length to all ranks in the same step: sort every 100 batches by length, then take turns"
)
_HALF = 0.5


@job_rule(
    "uneven-work", "RA003", "the work of a step differs between ranks", also=("variable-length", "load-imbalance")
)
def uneven_work(job: Job) -> JobOutcome:
    """Judge whether who comes last follows the work."""
    pattern = pattern_of(job, UNEVEN_WORK)
    if pattern is None:
        return None
    even = no_skew(job)
    half = JobEdit(saved=None if even.saved is None else even.saved * _HALF)
    return JobFault(
        summary=sentence_of(job, pattern).rstrip("."),
        fix=_FIX,
        change=JobChange(half, even, even),
        evidence=evidence_of(job, pattern),
    )
