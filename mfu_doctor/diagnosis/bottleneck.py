"""What a run is bound by, read from the split of its step alone.

The fix that saves most can be of another kind (less host work also hides a wait for data), so it has no say in the name.
"""

from __future__ import annotations

from mfu_doctor.result.bottleneck import BOUND_BY, COMPUTE_BOUND
from mfu_doctor.result.step import Breakdown

# Below this share of the step nothing removable is worth naming the run after.
BOUND_SHARE = 0.10


def bound_by(split: Breakdown) -> str:
    """The name for the largest removable share of the step, if it is at least `BOUND_SHARE`; else compute-bound.

    Idle time of a device that had its work queued ("queue") is the device's own, and one whose cause is not known ("other")
    is nobody's: neither makes a run host-bound.
    """
    removable = {owner: float(getattr(split, owner)) for owner, name in BOUND_BY.items() if name != COMPUTE_BOUND}
    removable["idle"] -= split.idle_causes.get("queue", 0.0) + split.idle_causes.get("other", 0.0)
    owner = max(removable, key=removable.__getitem__)
    if not split.step_s or removable[owner] < BOUND_SHARE * split.step_s:
        return COMPUTE_BOUND
    return BOUND_BY[owner]
