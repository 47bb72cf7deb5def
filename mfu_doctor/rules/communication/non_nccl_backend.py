"""Collectives use Gloo or MPI on the CPU although the tensors are on a GPU.

What it measures
    Gloo and MPI collectives in the steps of a GPU run, and their CPU time.

Why it costs
    Gloo copies to the CPU, sends over sockets, and copies back. NCCL uses NVLink and GPUDirect.

How the gain is predicted
    Low: half of their CPU time is removed.
    Mid: 90 % is removed.
    High: all of it is removed.

How to fix
    init_process_group("nccl").

When it is wrong
    The rule is wrong if these groups reduce CPU tensors on purpose (checkpoints, metadata).

References
    https://pytorch.org/docs/stable/distributed.html#which-backend-to-use
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.steady_steps import spans, steady_of
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

_GLOO = re.compile(r"^(gloo|mpi):(?!barrier)")


@rule(
    "non-nccl-backend", "CO007", "collectives of GPU tensors go through the CPU", needs=(Need.DEVICE,), also=("gloo",)
)
def non_nccl_backend(run: Run) -> Outcome:
    """Judge collectives of Gloo or MPI in a run on a GPU."""
    steady = steady_of(run)
    rows = rows_matching(run.trace, _GLOO, run.trace.rows(Category.CPU_OP, Category.ANNOTATION))
    inside = steady.issued(run, rows)
    if not len(inside):
        return None
    where = spans(run, rows)
    spent = steady.host_ns(where)
    return Finding(
        summary=f"{counted(steady.per_step(len(inside)), 'collective')} per step run on the CPU and take "
        f"{steady.share(spent)} of the step",
        fix='torch.distributed.init_process_group("nccl")',
        decides=Ends(low="half of this time is waiting for other ranks", high="none of it is waiting for other ranks"),
        change=Change((ScaleHost(where, 0.5),), (ScaleHost(where, 0.1),), (ScaleHost(where, 0.0),)),
        evidence=(
            shown("collectives", steady.per_step(len(inside)), "per step"),
            shown("CPU time", seconds(spent), "s"),
        ),
        effort="setting",
    )
