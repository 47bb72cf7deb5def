"""The device waits for collectives: they run while it computes nothing.

What it measures
    The time in which a collective runs and no compute kernel does. For collectives of the same kind and size, the time of the
    fastest one is the transfer time. Additional time is waiting for other ranks.

Why it costs
    In data-parallel training the gradient reduction overlaps with backward. A collective that is too long or starts too late
    makes the step longer.

How the gain is predicted
    The exposed part of each collective becomes shorter. Replay simulates the recorded timeline again with these shorter
    collectives.
    Low: half of the exposed transfer time is removed.
    Mid: all of the exposed transfer time is removed.
    High: all exposed time is removed, including waiting for other ranks. This is only possible if the ranks are balanced too.
    The saving is limited by the compute that does not yet overlap with a collective. A collective that already overlaps with
    compute saves nothing.

How to fix
    DistributedDataParallel(..., gradient_as_bucket_view=True, static_graph=True). Choose bucket_cap_mb so that the first bucket
    is ready early and the last one is small. A bf16 compression hook halves the bytes. With FSDP use forward_prefetch=True and
    backward_prefetch=BACKWARD_PRE.

When it is wrong
    The rule is wrong if a collective waits for a slow rank: with the trace of one rank, this looks like a slow transfer. Compare
    the reports of several ranks.

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
    """Judge the collectives of the analysed steps."""
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
        summary=f"{'Training' if run.is_cpu else 'GPU'} waits for communication {part.of_step}",
        fix=_fix(every, inside),
        detail=f"{share(total - exposed, total)} of {time_of(total)} overlaps with compute; "
        f"{time_of(waiting)} of the rest is probably waiting for other ranks",
        change=_change(run, every, _coverable(run, total, exposed)),
        evidence=_evidence(steady, every, inside, (total, exposed, waiting)),
        symptom_of=_roots(every, inside),
        confidence="hint" if waiting > exposed / 2 else "modelled",
    )


def _roots(every: Collectives, inside: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """Rules that explain why communication does not overlap: a slow link, or more communication than needed."""
    roots = ("slow-link", "sync-every-microbatch", "small-buckets", "late-gathers")
    mostly_tiny = every.exposed_ns[inside & every.tiny].sum() * 2 > every.exposed_ns[inside].sum()
    return (*roots, "scalar-collectives") if mostly_tiny else roots


def _coverable(run: Run, total_ns: float, exposed_ns: float) -> float:
    """Share of the exposed time that can overlap with compute: limited by the compute that overlaps with no collective yet."""
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
        return (
            "# start the all-to-all of the next batch before backward of this batch (torchrec TrainPipelineSparseDist)"
        )
    if any("send" in kind for kind in kinds):  # NCCL issues all-to-all as sends and receives
        return "# start the exchange of the next batch before backward of this batch (torchrec TrainPipelineSparseDist)"
    return "DistributedDataParallel(model, bucket_cap_mb=10, gradient_as_bucket_view=True, static_graph=True)"


def _evidence(
    steady: Steady, every: Collectives, inside: npt.NDArray[np.bool_], times: tuple[float, float, float]
) -> tuple[Evidence, ...]:
    total, exposed, waiting = times
    found = [
        shown("collectives", steady.per_step(int(inside.sum())), "per step"),
        shown("communication", seconds(total), "s"),
        shown("exposed communication", seconds(exposed), "s"),
        shown("waiting for other ranks", seconds(waiting), "s"),
    ]
    for kind in sorted(set(every.kind)):
        mine = inside & np.array([k == kind for k in every.kind])
        if mine.any():
            spent = steady.per_step(float(every.exposed_ns[mine].sum()))
            count = counted(steady.per_step(int(mine.sum())), "call")
            found.append(shown(f"{kind}, {count} per step", seconds(spent), "s"))
    return tuple(found)
