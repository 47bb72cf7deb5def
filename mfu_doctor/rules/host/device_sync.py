"""The CPU waits for the GPU in the middle of a step. The GPU is then idle until the CPU launches new kernels.

What it measures
    Calls that block the CPU until the GPU has finished (cudaStreamSynchronize, cudaDeviceSynchronize, copies to pageable host
    memory), by the operator that made them: .item(), .cpu(), .tolist(), nonzero, boolean indexing, printing a tensor. Loops that
    ask for an event until it has happened (event.query()). And the idle time of the GPU after them.

Why it costs
    The synchronisation itself overlaps with GPU work and costs nothing. The cost comes after it: the launch queue is empty, and
    the GPU is idle until the CPU launches the next kernels.

How the gain is predicted
    Replay simulates the recorded timeline again without the waits. If the launch queue is never empty (the GPU is the
    bottleneck), the saving is 0, and the report lists the fix as one that saves too little.
    Low: the most frequent wait is removed.
    Mid: all waits are removed, except those of nonzero, masked_select, unique and similar operators: their result decides
    shapes or branches.
    High: all waits are removed.

How to fix
    Keep losses and metrics on the GPU (total += loss.detach()) and read them every N steps. Replace x[mask] by torch.where.
    Remove torch.cuda.synchronize() from the loop.

When it is wrong
    The rule is wrong if a wait is needed (early stopping, data-dependent shapes). If debug prints were active during the
    recording, the trace contains waits that the real run does not have.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#avoid-unnecessary-cpu-gpu-synchronization
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from mfu_doctor.analysis.evidence.copies import pageable
from mfu_doctor.analysis.evidence.diagnostics import takes_most
from mfu_doctor.analysis.evidence.steady_steps import Part, Steady, part_of, spans, steady_of
from mfu_doctor.analysis.evidence.syncs import Syncs, find_syncs
from mfu_doctor.analysis.names.vocabulary import DEVICE_TO_HOST_PAGEABLE
from mfu_doctor.analysis.replay.edits import Change, DropWaits
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.quantities import counted, number
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Fewer waits than one in two steps: values are already read only every few steps, as the fix advises.
RARE = 0.5
# Less idle time than this share of the step is left out of the sentence: the waits then cost time elsewhere.
TOLD_SHARE = 0.001
_MASKING = ("aten::nonzero", "aten::masked_select", "aten::index", "aten::index_put_")


@rule(
    "device-sync",
    "HO002",
    "the CPU waits for the GPU inside the step",
    needs=(Need.DEVICE,),
    also=("item", "synchronize", "mask-indexing", "nonzero", "tolist", "print-loss"),
)
def device_sync(run: Run) -> Outcome:
    """Judge the blocking calls."""
    steady = steady_of(run)
    syncs = find_syncs(run, steady)
    if steady.per_step(len(syncs.calls)) < RARE:
        return None
    places = run.places(np.where(syncs.owner >= 0, syncs.owner, syncs.calls))
    groups = Counter(zip(syncs.reason, places, strict=True))
    (reason, place), most = groups.most_common(1)[0]
    idle = part_of(run, "sync")
    stops = _times(steady.per_step(len(syncs.calls)))
    return Finding(
        summary=f"CPU waits for the GPU {stops} per step" + _then_idle(idle, steady.step_ns),
        fix=_fix(reason),
        detail=f"most frequent: {_plain(reason)}, {_times(steady.per_step(most))} per step"
        + (f", at {place}" if place else ""),
        confidence="measured",
        decides=Ends(low="only the most frequent wait can go", high="even those for shapes and branches can go"),
        change=_change(syncs, places, (reason, place)),
        evidence=_evidence(steady, syncs, groups, idle),
        place=place,
        symptom_of=_roots(run, syncs, idle.mean_ns),
    )


def _change(syncs: Syncs, places: tuple[str | None, ...], first: tuple[str, str | None]) -> Change:
    pairs = zip(syncs.reason, places, strict=True)
    largest = np.array([pair == first for pair in pairs], np.bool_)
    free = ~np.array(syncs.data_dependent, np.bool_)
    low = syncs.calls[largest & free] if (largest & free).any() else syncs.calls[largest]
    return Change((DropWaits(low),), (DropWaits(syncs.calls[free]),), (DropWaits(syncs.calls),))


def _roots(run: Run, syncs: Syncs, idle: float) -> tuple[str, ...]:
    return (
        *(("diagnostics-in-step",) if takes_most(run, spans(run, syncs.calls)) else ()),
        *(("pageable-read",) if _reads(run, syncs) else ()),
        *(("host-computation",) if run.breakdown.mean_ns("host_compute") > idle else ()),
        *(("host-bound",) if _host_is_slower(run, idle) else ()),
    )


def _reads(run: Run, syncs: Syncs) -> bool:
    """Whether the waits mostly wait for large copies to pageable memory themselves, not for what ran before them."""
    copies = pageable(run, DEVICE_TO_HOST_PAGEABLE)
    copying = union(run.activity.start[copies.entry], run.activity.end[copies.entry])
    waiting = spans(run, syncs.calls)
    return 2 * (copying & waiting).total_ns > waiting.total_ns


def _host_is_slower(run: Run, idle: float) -> bool:
    """Whether the device waits for launches more than it waits after synchronisations: then the host is the root cause."""
    launching = run.breakdown.mean_ns("launch", "python")
    return launching > idle


def _times(count: float) -> str:
    return "once" if number(count) == "1" else counted(count, "time")


def _then_idle(idle: Part, step_ns: float) -> str:
    return f"; the GPU is then idle {idle.of_step}" if idle.mean_ns >= TOLD_SHARE * step_ns else ""


def _plain(reason: str) -> str:
    named = {"aten::item": ".item()", "aten::_local_scalar_dense": ".item()", "aten::to": ".cpu() or .to()"}
    named |= {"cudaEventQuery": "event.query() in a loop", "hipEventQuery": "event.query() in a loop"}
    named |= {"aten::copy_": "a copy to the host", "aten::_to_copy": ".cpu() or .to()"}
    return named.get(reason, reason.removeprefix("aten::"))


def _fix(reason: str) -> str:
    if reason in _MASKING:
        return "y = torch.where(mask, x, 0)  # not x[mask]: the size of y does not depend on GPU data"
    if reason.endswith("Query"):
        return "stream.wait_event(event)  # the GPU waits, not the CPU: no event.query() in a loop inside the step"
    if reason.endswith("EventSynchronize"):
        return "# read event.elapsed_time() after the loop: event.synchronize() blocks the CPU"
    if reason.endswith("Synchronize"):
        return "# remove torch.cuda.synchronize() from the step; time with torch.cuda.Event(enable_timing=True)"
    if "non_finite_check" in reason:
        return 'with torch.autocast("cuda", dtype=torch.bfloat16):  # bf16 needs no GradScaler and no inf check'
    if reason not in ("aten::item", "aten::_local_scalar_dense"):
        return 'y = x.to("cpu", non_blocking=True)  # and read y after the next launches (event.synchronize())'
    return "total += loss.detach()  # keep it on the GPU; read total.item() once every 100 steps"


def _evidence(
    steady: Steady, syncs: Syncs, groups: Counter[tuple[str, str | None]], idle: Part
) -> tuple[Evidence, ...]:
    listed = [
        shown(_plain(reason), steady.per_step(n), "per step", place) for (reason, place), n in groups.most_common(5)
    ]
    return (
        shown("waits", steady.per_step(len(syncs.calls)), "per step"),
        shown("GPU idle after a wait", seconds(idle.mean_ns), "s"),
        *listed,
    )
