"""Ranks whose experts get more tokens come late to the exchange that follows, and all others wait for them.

What it measures
    The bytes that each rank puts into all-to-alls: what a rank sends back is what its experts were given. Their spread over the
    ranks of a group is compared with the time that each rank needs for itself.

Why it costs
    All experts of a layer must finish before the tokens go back, so a layer takes as long as its fullest expert.

How the gain is predicted
    All ranks are replayed together, and each needs as much time for itself as all do on average at the same place of the program.
    Low: half of the difference.

How to fix
    A larger weight of the load-balancing loss, a capacity factor, or a router that balances by a bias of each expert. Several
    experts on each rank also even it out.

When it is wrong
    The rule is wrong if the all-to-alls do not carry tokens to experts: embeddings are also exchanged so, and their sizes differ
    by design.

References
    https://arxiv.org/abs/2101.03961 (Switch Transformers, section 2.2: the load-balancing loss)
    https://arxiv.org/abs/2408.15664 (Auxiliary-Loss-Free Load Balancing Strategy)
"""

from __future__ import annotations

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.own_work import given_bytes, goes_with
from mfu_doctor.job.across.what_if import no_skew
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule

# The fullest rank gets so many times the mean: below, the router is as even as routers are.
_UNEVEN = 1.2
_HALF = 0.5


@job_rule("unequal-experts", "RA006", "some experts get more tokens than others", also=("moe-imbalance", "expert-load"))
def unequal_experts(job: Job) -> JobOutcome:
    """Judge the sizes of all-to-alls."""
    given = given_bytes(job, "alltoall")[:, job.steady]
    if not given.size or (given <= 0).any():
        return None
    most = float((given.max(axis=0) / given.mean(axis=0)).mean())
    if most < _UNEVEN or not goes_with(job, given):
        return None
    even = no_skew(job)
    half = JobEdit(saved=None if even.saved is None else even.saved * _HALF)
    fullest = given.mean(axis=1)
    return JobFault(
        summary=f"The fullest rank is given {share(most, 1.0)} of the mean in all-to-alls, and comes late for it",
        fix="# a larger weight of the load-balancing loss, or a bias of each expert in the router",
        change=JobChange(half, even, even),
        evidence=(
            shown("most", float(fullest.max()), "bytes per step", f"rank {job.ranks[int(fullest.argmax())]}"),
            shown("least", float(fullest.min()), "bytes per step", f"rank {job.ranks[int(fullest.argmin())]}"),
        ),
    )
