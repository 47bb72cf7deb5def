"""Stages of the pipeline wait while it fills and drains, because a step has few micro-batches.

What it measures
    The waiting in sends and receives between stages, and how many micro-batches go through the pipeline in a step: the messages
    from one stage to the next. Waiting for a stage that is longer than the others is left to stage-imbalance.

Why it costs
    With p stages and m micro-batches, a stage works on m of the m + p - 1 places of a step: the first p - 1 fill the pipeline.

How the gain is predicted
    With twice as many micro-batches of half the size, the fill is half as long. Half of the share (p - 1) / (m + p - 1) of the
    step is saved, and not more than half of what was waited. This is a closed form, not a replay: smaller micro-batches also
    compute less well.
    Low: half of that.

How to fix
    More micro-batches in a step, or an interleaved schedule, in which each rank has several stages.

When it is wrong
    The rule is wrong if the micro-batches are so small that half of one takes nearly as long.

References
    https://arxiv.org/abs/2104.04473 (Efficient Large-Scale Language Model Training on GPU Clusters, section 2.2)
"""

from __future__ import annotations

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.stages import micro_batches, stage_times, stage_waits
from mfu_doctor.quantities import counted, share
from mfu_doctor.rules.contract import WORTH_SHARE, shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule

_HALF = 0.5


@job_rule("pipeline-bubble", "RA004", "few micro-batches fill the pipeline", also=("bubble", "micro-batches"))
def pipeline_bubble(job: Job) -> JobOutcome:
    """Judge the waiting between stages."""
    stages, count = job.slots.stages, micro_batches(job)
    if stages < 2 or not count or not job.recorded_ns:
        return None
    own, waits = stage_times(job), stage_waits(job)
    fill = (stages - 1) / (count + stages - 1)
    # What the others wait for the longest stage is not the fill's.
    bubble = min(waits - float(own.max() - own.mean()), fill * job.recorded_ns) / job.recorded_ns
    if bubble * _HALF < WORTH_SHARE:
        return None
    shorter = JobEdit(shorter=bubble * _HALF)
    return JobFault(
        summary=f"The pipeline of {stages} stages fills and drains for {share(bubble, 1.0)} of the step: "
        f"{counted(count, 'micro-batch')} a step",
        fix=f"n_microbatches={2 * round(count)}  # or ScheduleInterleaved1F1B, with several stages on each rank",
        change=JobChange(JobEdit(shorter=bubble * _HALF * _HALF), shorter, shorter),
        evidence=(
            shown("micro-batches", count, "per step"),
            shown("waiting between stages", waits / job.second_ns, "s"),
        ),
        confidence="hint",
    )
