"""Collectives run while the device computes nothing, so the step waits for the network.

What it measures
    The time in which a collective runs and no computation does. Collectives of the same kind and size are compared: what
    one takes above the fastest of them is waiting for other ranks, the rest is transfer.

Why it costs
    Data-parallel training hides gradient reduction behind the backward pass; what does not fit behind it, or is issued
    too late, is added to the step.

How the gain is predicted
    The exposed part of each collective shrinks in the replayed timeline. Low end: half of the exposed transfer; mid: all of
    the exposed transfer; high: all exposed time, waiting for other ranks included, which only holds if the ranks are balanced
    too. Never more than computation can cover: what runs beside no collective yet. A collective hidden behind computation
    saves nothing.

How to fix
    DistributedDataParallel(..., gradient_as_bucket_view=True, static_graph=True) with bucket_cap_mb chosen so that the first
    bucket is ready early and the last is small; a bf16 compression hook halves the bytes. With FSDP:
    forward_prefetch=True, backward_prefetch=BACKWARD_PRE.

When it is wrong
    One rank cannot tell slow links from a slow neighbour: a collective that waits looks like one that transfers slowly. Give
    the traces of more ranks where that matters.

References
    Li et al., PyTorch Distributed: experiences on accelerating data parallel training, VLDB 2020.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@rule("exposed-communication", "CO001", "the device waits for collectives", also=("overlap", "all-reduce"))
def exposed_communication(run: Run) -> Outcome:
    """Judge the collectives of the steady steps."""
    steady = steady_of(run)
    every = collectives_of(run)
    if every is None:
        return None
    inside = steady.entries(run)[every.entry]
    part = part_of(run, "communication")  # of all together: collectives can overlap
    exposed = part.mean_ns
    if not inside.any() or exposed <= 0:
        return None
    total = steady.per_step(float((run.activity.busy(COMMUNICATION) & steady.device).total_ns))
    waiting = min(steady.per_step(float(every.exposed_wait_ns[inside].sum())), exposed)
    return Finding(
        summary=f"Communication is exposed {part.of_step}",
        fix=_fix(every, inside),
        detail=f"{share(total - exposed, total)} of {time_of(total)} is hidden behind computation; "
        f"{time_of(waiting)} of the rest looks like waiting for other ranks",
        change=_change(run, every, _coverable(run, total, exposed)),
        evidence=_evidence(steady, every, inside, (total, exposed, waiting)),
        symptom_of=_roots(every, inside),
        confidence="hint" if waiting > exposed / 2 else "modelled",
    )


def _roots(every: Collectives, inside: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """What would explain that communication does not fit behind computation: a slow link, or more of it than is needed."""
    roots = ("slow-link", "sync-every-microbatch", "small-buckets", "late-gathers")
    mostly_tiny = every.exposed_ns[inside & every.tiny].sum() * 2 > every.exposed_ns[inside].sum()
    return (*roots, "scalar-collectives") if mostly_tiny else roots


def _coverable(run: Run, total_ns: float, exposed_ns: float) -> float:
    """Share of the exposed time that computation could cover: what runs beside no collective yet, and no more than that."""
    free = run.breakdown.mean_ns("compute", run.steps.steady) - (total_ns - exposed_ns)
    return min(max(free, 0.0) / exposed_ns, 1.0)


def _change(run: Run, every: Collectives, coverable: float) -> Change:
    rows = run.activity.row[every.entry]
    transfer = ((every.exposed_ns - every.exposed_wait_ns) * coverable).astype(np.float64)

    def less(saved: npt.NDArray[np.float64]) -> tuple[SetDevice]:
        return (SetDevice(rows, np.maximum(every.duration_ns - saved, 0).astype(np.int64)),)

    return Change(less(transfer / 2), less(transfer), less((every.exposed_ns * coverable).astype(np.float64)))


def _fix(every: Collectives, inside: npt.NDArray[np.bool_]) -> str:
    kinds = {kind for kind, keep in zip(every.kind, inside.tolist(), strict=True) if keep}
    if any("gather" in kind or "scatter" in kind for kind in kinds) and not any("alltoall" in kind for kind in kinds):
        return "FullyShardedDataParallel(..., forward_prefetch=True, backward_prefetch=BackwardPrefetch.BACKWARD_PRE)"
    if any("alltoall" in kind for kind in kinds):
        return "# issue the all-to-all of the next batch before this batch's backward pass (TrainPipelineSparseDist)"
    if any("send" in kind for kind in kinds):  # NCCL issues all-to-all as sends and receives
        return "# issue the exchange of the next batch before this batch's backward pass (TrainPipelineSparseDist)"
    return "DistributedDataParallel(model, bucket_cap_mb=10, gradient_as_bucket_view=True, static_graph=True)"


def _evidence(
    steady: Steady, every: Collectives, inside: npt.NDArray[np.bool_], times: tuple[float, float, float]
) -> tuple[Evidence, ...]:
    total, exposed, waiting = times
    found = [
        shown("collectives", steady.per_step(int(inside.sum())), "per step"),
        shown("communication", seconds(total), "s"),
        shown("exposed", seconds(exposed), "s"),
        shown("of it waiting for ranks", seconds(waiting), "s"),
    ]
    for kind in sorted(set(every.kind)):
        mine = inside & np.array([k == kind for k in every.kind])
        if mine.any():
            spent = steady.per_step(float(every.exposed_ns[mine].sum()))
            count = counted(steady.per_step(int(mine.sum())), "call")
            found.append(shown(f"{kind}, {count} a step", seconds(spent), "s"))
    return tuple(found)
