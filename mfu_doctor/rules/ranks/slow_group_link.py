"""The collectives of one group take longer to move the same bytes than those of its sister groups.

What it measures
    The transfer of each collective, which begins when its last rank has come: no waiting is in it. Groups of one kind (all the
    data-parallel groups, say) are compared for the same kind and size of collective.

Why it costs
    Groups that finish late come late to the next collective with others, so one slow connection costs the time of all.

How the gain is predicted
    All ranks are replayed together, and the collectives of the slow group take as long as the median of its sisters.
    Low: half of the difference.

How to fix
    Look at how the ranks of that group are connected: a link that runs at a lower rate or with errors, ranks on a further switch,
    a network card that is shared. NCCL_DEBUG=INFO shows the transport and the rings of each group.

When it is wrong
    The rule is wrong if the ranks of this group are further apart by design.

References
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html (NCCL_DEBUG, NCCL_TOPO_DUMP_FILE)
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.group_rates import slow_groups
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.words import ranks_named
from mfu_doctor.quantities import duration
from mfu_doctor.rules.contract import shown
from mfu_doctor.rules.job_contract import JobFault, JobOutcome, job_rule
from mfu_doctor.units import NS_PER_S

_HALF = 0.5


@job_rule(
    "slow-group-link", "RA007", "one group communicates slower than its sisters", also=("slow-network", "slow-nic")
)
def slow_group_link(job: Job) -> JobOutcome:
    """Judge the transfers of groups of one kind."""
    slow = slow_groups(job)
    if slow is None:
        return None
    group = job.table.groups[slow.group]
    faster = job.replay.transfer.copy()
    rows = np.flatnonzero(job.table.group == slow.group)
    faster[rows] = np.minimum(faster[rows], slow.usual_ns[rows])
    between = (faster + job.replay.transfer) * _HALF
    edit = JobEdit(transfer=faster)
    members = ranks_named([job.ranks[member] for member in group.members])
    return JobFault(
        summary=f"The {group.label} group of {members} moves the same bytes in {slow.times:.1f} times the time of the others: "
        f"{duration(slow.theirs_ns / NS_PER_S)} a collective, against {duration(slow.others_ns / NS_PER_S)}",
        fix="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,GRAPH,NET  # shows how the ranks of this group are connected",
        late=group.members,
        change=JobChange(JobEdit(transfer=between), edit, edit),
        evidence=(
            shown("transfer", slow.theirs_ns / NS_PER_S, "s", slow.kind),
            shown("the same in the other groups", slow.others_ns / NS_PER_S, "s", slow.kind),
        ),
    )
