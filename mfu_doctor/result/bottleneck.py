"""Who owns the time of a step, in words, and what a run is called that one of them holds more than half of.

Set by the diagnosis, looked up by every renderer.
"""

from __future__ import annotations

from dataclasses import dataclass

from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES, Breakdown

# Below this share of the step nobody limits it alone.
BOUND_SHARE = 0.5

COMPUTE_BOUND = "compute-bound"
BOUND_BY = {
    "compute": COMPUTE_BOUND,
    "communication": "communication-bound",
    "memory_copy": "copy-bound",
    "data_loading": "input-bound",
    "launch": "launch-bound",
    "python": "Python-bound",
    "sync": "sync-bound",
    "allocator": "allocator-bound",
    "compile": "compile-bound",
}
_IDLE = "idle"
BUCKET_OF = {name: owner if owner in BUCKETS else _IDLE for owner, name in BOUND_BY.items()}
OWNER_WORDS = {
    "compute": "computing",
    "communication": "communication",
    "memory_copy": "copying",
    "data_loading": "waiting for data",
    "launch": "waiting for launches",
    "host_compute": "waiting for operators on the CPU",
    "sync": "waiting after synchronisations",
    "allocator": "waiting for memory to be allocated",
    "compile": "waiting for compilation",
    "gc": "waiting for the garbage collector",
    "python": "Python between operators",
    "rank_wait": "waiting for other ranks",
    "queue": "held with work in the queue",
    "other": "idle for a reason that is not known",
}


@dataclass(frozen=True, slots=True)
class Owned:
    """What one owner (a bucket, or a cause of idle time) has of the step."""

    owner: str
    seconds: float


def owners_of(split: Breakdown) -> tuple[Owned, ...]:
    """Every owner that has time of the step, longest first: the buckets, with idle time divided by its causes."""
    causes = {name: split.idle_causes.get(name, 0.0) for name in IDLE_CAUSES}
    causes["other"] += max(split.idle - sum(causes.values()), 0.0)
    every = {name: float(getattr(split, name)) for name in BUCKETS if name != _IDLE} | causes
    ranked = sorted(every.items(), key=lambda item: -item[1])
    return tuple(Owned(name, seconds) for name, seconds in ranked if seconds > 0)


def bound_by(split: Breakdown) -> str | None:
    """The name of a run for what holds more than `BOUND_SHARE` of its step; None if nothing does, or it has no name."""
    first = next(iter(owners_of(split)), None)
    if first is None or first.seconds <= BOUND_SHARE * split.step_s:
        return None
    return BOUND_BY.get(first.owner)
