"""The host waits for the device in the middle of a step, and the device runs dry until the host has issued work again.

What it measures
    Calls that block the host until the device has finished (cudaStreamSynchronize and cudaDeviceSynchronize, copies to
    pageable host memory), by the operator that made them: .item(), .cpu(), .tolist(), nonzero, boolean indexing, printing a
    tensor. And the idle time of the device that follows them.

Why it costs
    The wait itself overlaps with work of the device and costs nothing. What costs is the time after it: the queue is empty,
    and the device idles until the host has launched again.

How the gain is predicted
    The waits are dropped from the recorded timeline and the run is replayed. Where the queue never empties (the device
    is the bottleneck) the saving is 0, and the advice is withheld with that number. Low end: only the most frequent kind of
    wait is dropped; mid: all whose result decides nothing on the device; high: all.

How to fix
    Keep losses and metrics on the device (total += loss.detach()) and read them every N steps. Replace x[mask] by
    torch.where. Remove torch.cuda.synchronize() from the loop.

When it is wrong
    A wait may be needed (early stopping, data-dependent shapes). A trace recorded with debugging prints has waits that
    the real run has not.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#avoid-unnecessary-cpu-gpu-synchronization
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import Part, Steady, part_of, steady_of
from mfu_doctor.analysis.evidence.syncs import Syncs, find_syncs
from mfu_doctor.analysis.replay.edits import Change, DropWaits
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, number
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Fewer waits than one in two steps: values are read every few steps already, which is the advice.
RARE = 0.5
# Less idle time than a thousandth of the step is left out of the sentence: what the waits cost is then elsewhere.
TOLD_SHARE = 0.001
_MASKING = ("aten::nonzero", "aten::masked_select", "aten::index", "aten::index_put_")


@rule(
    "device-sync",
    "HO002",
    "the host stops to wait for the device",
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
        summary=f"Host waits for the GPU {stops} a step" + _then_idle(idle, steady.step_ns),
        fix=_fix(reason),
        detail=f"most often by {_plain(reason)}, {_times(steady.per_step(most))} a step"
        + (f", at {place}" if place else ""),
        change=_change(syncs, places, (reason, place)),
        evidence=_evidence(steady, syncs, groups, idle),
        place=place,
        symptom_of=("host-bound",) if _host_is_slower(run, idle.mean_ns) else (),
    )


def _change(syncs: Syncs, places: tuple[str | None, ...], first: tuple[str, str | None]) -> Change:
    pairs = zip(syncs.reason, places, strict=True)
    largest = np.array([pair == first for pair in pairs], np.bool_)
    free = ~np.array(syncs.data_dependent, np.bool_)
    low = syncs.calls[largest & free] if (largest & free).any() else syncs.calls[largest]
    return Change((DropWaits(low),), (DropWaits(syncs.calls[free]),), (DropWaits(syncs.calls),))


def _host_is_slower(run: Run, idle: float) -> bool:
    """Whether the device waits for launches more than it waits after synchronisations: then the host is the root cause."""
    launching = sum(run.breakdown.mean_ns(cause, run.steps.steady) for cause in ("launch", "python"))
    return launching > idle


def _times(count: float) -> str:
    return "once" if number(count) == "1" else counted(count, "time")


def _then_idle(idle: Part, step_ns: float) -> str:
    return f"; the GPU then idles {idle.of_step}" if idle.stated_ns >= TOLD_SHARE * step_ns else ""


def _plain(reason: str) -> str:
    named = {"aten::item": ".item()", "aten::_local_scalar_dense": ".item()", "aten::to": ".cpu() or .to()"}
    named |= {"aten::copy_": "a copy to the host", "aten::_to_copy": ".cpu() or .to()"}
    return named.get(reason, reason.removeprefix("aten::"))


def _fix(reason: str) -> str:
    if reason in _MASKING:
        return "y = torch.where(mask, x, 0)  # instead of x[mask]: its size needs no answer from the GPU"
    if reason.endswith("EventSynchronize"):
        return "# read event.elapsed_time() after the loop: event.synchronize() stops the host"
    if reason.endswith("Synchronize"):
        return "# remove torch.cuda.synchronize() from the step; time with torch.cuda.Event(enable_timing=True)"
    if "non_finite_check" in reason:
        return 'with torch.autocast("cuda", dtype=torch.bfloat16):  # needs no GradScaler and no inf check'
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
        shown("GPU idle after a wait", seconds(idle.stated_ns), "s"),
        *listed,
    )
