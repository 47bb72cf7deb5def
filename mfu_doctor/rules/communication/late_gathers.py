"""Sharded parameters are gathered when a layer needs them, and the layer waits.

What it measures
    All-gathers in the steady steps and the part of them in which nothing is computed.

Why it costs
    While one layer computes, the parameters of the next could travel.

How the gain is predicted
    Half, 80 % or all of the exposed part is hidden.

How to fix
    forward_prefetch and backward_prefetch of FSDP; larger units where each gather is short.

When it is wrong
    The first gather of a step has nothing to hide behind. Prefetching holds one more layer in memory.

References
    Zhao et al., PyTorch FSDP, VLDB 2023.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_HIDDEN = (0.5, 0.8, 1.0)  # share of the exposed part that prefetching hides


@rule(
    "late-gathers",
    "CO010",
    "sharded parameters arrive late",
    needs=(Need.DEVICE,),
    also=("fsdp-prefetch", "limit-all-gathers"),
)
def late_gathers(run: Run) -> Outcome:
    """Judge all-gathers that computation waits for."""
    every = collectives_of(run)
    if every is None:
        return None
    steady = steady_of(run)
    gathers = np.array([kind == "allgather" for kind in every.kind])
    inside = gathers & steady.entries(run)[every.entry]
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))
    if exposed <= WORTH_SHARE * steady.step_ns:
        return None
    rows, duration = run.activity.row[every.entry[gathers]], every.duration_ns[gathers]
    ends = [(SetDevice(rows, (duration - hidden * every.exposed_ns[gathers]).astype(np.int64)),) for hidden in _HIDDEN]
    return Finding(
        summary=f"{counted(steady.per_step(int(inside.sum())), 'all-gather')} a step, exposed "
        f"{steady.share(exposed)} of it",
        fix="FullyShardedDataParallel(model, forward_prefetch=True, limit_all_gathers=True)",
        detail="with fully_shard: module.set_modules_to_forward_prefetch([next_module])",
        change=Change(*ends),
        evidence=(
            shown("all-gathers", steady.per_step(int(inside.sum())), "per step"),
            shown("exposed", seconds(exposed), "s"),
        ),
        symptom_of=("slow-link",),
    )
