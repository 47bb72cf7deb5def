"""All ranks of one machine come late to collectives, and the ranks of the other machines wait for them.

What it measures
    Whose ranks need more time for themselves in step after step, as straggler-rank does. If they are those of one machine of
    several, the machine is slow and not its ranks.

Why it costs
    A collective ends when its last rank has come: the whole job runs at the pace of its slowest machine.

How the gain is predicted
    All ranks are replayed together, and those of the machine need as much time for themselves as the median of the others.
    Low: as much as the slowest of the others.

How to fix
    Look at what the machine has in common: clocks and power of its devices, other processes, its disk, its cores and threads. If
    nothing helps, take it out of the job: a run on one machine less is faster if the machine costs more than its share.

When it is wrong
    The rule is wrong if the ranks of this machine have more to do by design, as stages of a pipeline have. It needs the names of
    machines: mfu-doctor records them, and tensorboard_trace_handler names its files for them.

References
    https://arxiv.org/abs/2505.05713 (Understanding Stragglers in Large Model Training Using What-if Analysis, OSDI 2025)
"""

from __future__ import annotations

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.lateness_told import evidence_of
from mfu_doctor.job.across.patterns import pattern_of
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.job.across.words import main_cause, sentence_of
from mfu_doctor.result.job import SLOW_NODE
from mfu_doctor.rules.contract import shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule

_LOOK = {
    True: "nvidia-smi -q -d CLOCK,PERFORMANCE,POWER  # on {host} and on another machine: compare what they say",
    False: "lscpu; uptime; top -b -n 1 | head -20  # on {host} and on another machine: compare what they say",
}


@job_rule("slow-node", "RA002", "all ranks of one machine are slow", also=("slow-host", "slow-machine"))
def slow_node(job: Job) -> JobOutcome:
    """Judge whether the ranks that are waited for are those of one machine."""
    pattern = pattern_of(job, SLOW_NODE)
    if pattern is None:
        return None
    host = job.hosts[pattern.late[0]] or ""
    cause = main_cause(pattern.more_ns)
    on_device = job.summaries[pattern.late[0]].report.device.kind == "gpu" and (cause or "").startswith("compute")
    return JobFault(
        summary=sentence_of(job, pattern).rstrip("."),
        fix=_LOOK[on_device].format(host=host),
        late=pattern.late,
        change=like_the_others(job, pattern.late),
        cause=cause,
        evidence=(shown("machine", host), *evidence_of(job, pattern)),
    )
