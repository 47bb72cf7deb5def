"""The GPU is idle although work is queued: something that the trace does not show holds the queue.

What it measures
    The idle time of the GPU in which the next operation is already launched, without pauses that a launch takes anyway (0.1 ms).
    What held the operation, as far as the trace tells: a wait for an event of another stream (cudaStreamWaitEvent), a
    collective that waits for other ranks, a CUDA graph that starts late, or nothing in the trace.

Why it costs
    The CPU is ahead, so faster launching does not help. The GPU waits for another stream, another GPU or another process.

How the gain is predicted
    Replay simulates the recorded timeline again without the holds.
    Low and mid: half of each hold remains. If nothing tells what holds the work, low is no saving.
    High: each held operation starts as soon as its stream is free.
    If the holds take more than 10 % of the step, nothing is predicted: what held the queue is not in this trace, so nothing shows
    when it would let go.

How to fix
    Let a stream wait for an event as late as possible: right before the first kernel that needs the result. With several ranks
    compare their traces: the last one to arrive holds the others. nvidia-smi shows other processes on the GPU.

When it is wrong
    The rule is wrong if kernels of this GPU are missing in the trace (dropped events): then it was not idle.

References
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.queue_holds import COLLECTIVE, EVENT, GRAPH, UNKNOWN, QueueHolds, queue_holds
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.analysis.replay.edits import Change, ReleaseHolds
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_BY = {
    COLLECTIVE: "it waits for a collective, so for other ranks",
    EVENT: "its stream waits for an event of other work (cudaStreamWaitEvent)",
    GRAPH: "a CUDA graph was launched and starts late",
    UNKNOWN: "nothing in this trace shows by what",
}
_FIX = {
    COLLECTIVE: "mfu-doctor report TRACES/  # the traces of all ranks in one directory: which rank arrives last?",
    EVENT: "torch.cuda.current_stream().wait_stream(side)  # right before the first use of its result, not earlier",
    GRAPH: "# launch the graph when the GPU is free: what was queued before it is not in this trace",
    UNKNOWN: "nvidia-smi --query-compute-apps=pid,name --format=csv  # does another process use this GPU?",
}


@rule(
    "held-queue",
    "DV006",
    "queued work is held",
    needs=(Need.DEVICE,),
    also=("queue", "stream-wait", "wait-event"),
)
def held_queue(run: Run) -> Outcome:
    """Judge the idle time in which work was queued."""
    steady, holds = steady_of(run), queue_holds(run)
    if holds is None or holds.held_ns < max(WORTH_SHARE * steady.step_ns, _next_loss(run)):
        return None
    holder = next(iter(holds.by_holder))
    return Finding(
        summary=f"Queued GPU work is held {steady.share(holds.held_ns)} of the step: {_BY[holder]}",
        fix=_FIX[COLLECTIVE if holder == UNKNOWN and _has_ranks(run) else holder],
        detail=f"the longest hold is before {short_name(run.trace.name_of(holds.first))}",
        decides=Ends(
            low="the holder is not the cause, or half of each hold stays", high="nothing else holds this work"
        ),
        change=_change(holds),
        evidence=_evidence(holds),
        confidence="hint",
        step_share=min(holds.held_ns / steady.step_ns, 1.0),
        effort="refactor",
    )


def _has_ranks(run: Run) -> bool:
    """Whether other ranks can hold the work of this one."""
    return (run.trace.distributed.world_size or 1) > 1 or bool((run.activity.kind == COMMUNICATION).any())


def _next_loss(run: Run) -> float:
    """The largest other part of the step in which the device does not compute, in nanoseconds."""
    owners = {*BUCKETS, *IDLE_CAUSES} - {"compute", "idle", "queue"}
    return max(run.breakdown.mean_ns(owner) for owner in owners)


def _change(holds: QueueHolds) -> Change:
    half, all_of_it = (ReleaseHolds(holds.rows, left=0.5),), (ReleaseHolds(holds.rows),)
    return Change(() if next(iter(holds.by_holder)) == UNKNOWN else half, half, all_of_it)


def _evidence(holds: QueueHolds) -> tuple[Evidence, ...]:
    found = [shown(f"held: {_BY[holder]}", seconds(ns), "s") for holder, ns in holds.by_holder.items()]
    if holds.polls:
        found.append(shown("loops in which the CPU polls an event", holds.polls, "per step"))
    return tuple(found)
