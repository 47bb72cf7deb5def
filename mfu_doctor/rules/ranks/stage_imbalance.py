"""One stage of the pipeline has more to do than the others, which wait for it in every micro-batch.

What it measures
    What each stage does for itself in a step, without sending, receiving and waiting. Ranks that send to each other are stages.

Why it costs
    Micro-batches go through all stages, so the pipeline runs at the pace of its longest stage.

How the gain is predicted
    All ranks are replayed together, and every stage takes as long for itself as the stages do on average. The time to fill and to
    drain the pipeline remains.
    Low: half of that, since whole layers must move.

How to fix
    Move layers from the longest stage to the shortest. The first stage also has the embedding, and the last one the head and the
    loss: give them fewer layers.

When it is wrong
    The rule is wrong if memory, not time, decides how many layers a stage can hold.

References
    https://arxiv.org/abs/2505.05713 (the last stage of most of their jobs is the longest)
"""

from __future__ import annotations

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.stages import stage_times, stage_waits
from mfu_doctor.job.across.what_if import stages_alike
from mfu_doctor.quantities import duration, share
from mfu_doctor.rules.contract import WORTH_SHARE, shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule

# A stage that has so much more than the mean one is told: a layer of ten is a tenth.
_LONGER = 1.1
_HALF = 0.5


@job_rule(
    "stage-imbalance", "RA005", "one stage of the pipeline is longer than the others", also=("pipeline-imbalance",)
)
def stage_imbalance(job: Job) -> JobOutcome:
    """Judge the own time of the stages."""
    if job.slots.stages < 2 or not job.recorded_ns:
        return None
    own = stage_times(job)
    mean = float(own.mean())
    longest, shortest = int(own.argmax()), int(own.argmin())
    if own[longest] < _LONGER * mean or stage_waits(job) < WORTH_SHARE * job.recorded_ns:
        return None
    alike = stages_alike(job)
    half = JobEdit(saved=None if alike.saved is None else alike.saved * _HALF)
    texts = [duration(float(own[stage]) / job.second_ns) for stage in (longest, shortest)]
    return JobFault(
        summary=f"Stage {longest} of {len(own)} has {share(float(own[longest]), mean)} of the mean stage's time: "
        f"{texts[0]} a step, stage {shortest} has {texts[1]}",
        fix=f"# move layers from stage {longest} to stage {shortest}",
        late=tuple(rank for rank, stage in enumerate(job.slots.stage.tolist()) if stage == longest),
        change=JobChange(half, alike, alike),
        evidence=tuple(
            shown(f"stage {stage}", float(ns) / job.second_ns, "s") for stage, ns in enumerate(own.tolist())
        ),
    )
