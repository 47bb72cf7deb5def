"""FSDP gathers the parameters of a layer only when the layer needs them, and the layer waits.

What it measures
    All-gathers in the analysed steps, and the part of them that does not overlap with compute.

Why it costs
    The all-gather of the next layer could run while the current layer computes.

How the gain is predicted
    Low: half of the exposed part overlaps with compute.
    Mid: 80 % of it.
    High: all of it.

How to fix
    Use forward_prefetch and backward_prefetch of FullyShardedDataParallel, set_modules_to_forward_prefetch of fully_shard, or
    overlap_comm of DeepSpeed. The rule needs the spans of one of them. If each all-gather is short, use larger FSDP units (wrap
    policy).

When it is wrong
    The rule promises too much for the first all-gather of a step: there is no compute before it. Prefetching keeps one more layer
    in memory.

References
    Zhao et al., PyTorch FSDP, VLDB 2023.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.parallelism import gather_fix, parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_HIDDEN = (0.5, 0.8, 1.0)  # share of the exposed part that overlaps with compute after prefetching


@rule(
    "late-gathers",
    "CO010",
    "all-gathers of parameters do not overlap with compute",
    needs=(Need.DEVICE,),
    also=("fsdp-prefetch", "limit-all-gathers"),
)
def late_gathers(run: Run) -> Outcome:
    """Judge all-gathers that compute waits for."""
    every, used = collectives_of(run), parallelism_of(run)
    if every is None or "allgather" not in every.kind:
        return None
    fix = gather_fix(used) if used.data_parallel else None
    if fix is None:
        return Skip("the trace does not show that a framework gathers parameters (FSDP, DeepSpeed)")
    steady = steady_of(run)
    gathers = np.array([kind == "allgather" for kind in every.kind])
    inside = gathers & steady.entries(run)[every.entry]
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))
    if exposed <= WORTH_SHARE * steady.step_ns:
        return None
    rows, duration = run.activity.row[every.entry[gathers]], every.duration_ns[gathers]
    ends = [(SetDevice(rows, (duration - hidden * every.exposed_ns[gathers]).astype(np.int64)),) for hidden in _HIDDEN]
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for "
        f"{counted(steady.per_step(int(inside.sum())), 'all-gather')} per step",
        fix=fix,
        decides=Ends(low="compute before them hides half of them", high="compute before them hides all of them"),
        change=Change(*ends),
        evidence=(
            shown("all-gathers", steady.per_step(int(inside.sum())), "per step"),
            shown("exposed communication", seconds(exposed), "s"),
        ),
        symptom_of=("slow-link",),
    )
