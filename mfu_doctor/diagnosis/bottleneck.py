"""What a run is bound by, from the time breakdown of its step alone.

The fix that saves most does not decide this. It can be of another kind: less host work can also shorten a wait for data.
"""

from __future__ import annotations

from dataclasses import replace

from mfu_doctor.result.bottleneck import BOUND_BY, COMPUTE_BOUND
from mfu_doctor.result.step import Breakdown

# Below this share of the step nothing removable is worth naming the run after.
BOUND_SHARE = 0.10


def bound_by(split: Breakdown, kept_wait: float = 1.0) -> str | None:
    """The name for the largest removable share of the step, if it is at least `BOUND_SHARE`; else compute-bound.

    Two causes of idle time do not make a run host-bound: the device had work in its queue ("queue"), or the cause is unknown
    ("other"). If they take more than anything else, there is no name (None).

    Args:
        split: the recorded step.
        kept_wait: what is left of its wait for data in the rest of the run.
    """
    gone = split.data_loading * (1.0 - kept_wait)
    split = replace(split, step_s=split.step_s - gone, data_loading=split.data_loading - gone)
    removable = {owner: float(getattr(split, owner)) for owner, name in BOUND_BY.items() if name != COMPUTE_BOUND}
    nameless = split.idle_causes.get("queue", 0.0) + split.idle_causes.get("other", 0.0)
    removable["idle"] -= nameless
    if nameless > max(split.compute, *removable.values()):
        return None
    owner = max(removable, key=removable.__getitem__)
    if not split.step_s or removable[owner] < BOUND_SHARE * split.step_s:
        return COMPUTE_BOUND
    return BOUND_BY[owner]
