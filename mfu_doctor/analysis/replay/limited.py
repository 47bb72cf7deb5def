"""A fix made only in part: where it may get no more than so much of the step back, as much stays of everything that it changes.

A rule names what is lost, and its fix can get nothing else back. Alone a number bounds what that saves; replayed with other ranks
the fix must be one that saves so much, since what they wait for it is shorter too.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.analysis.replay.model import Calls, Delivery, Operations, Timeline
from mfu_doctor.analysis.replay.walk import walk

_TRIES = 10  # each halves what is left: a thousandth of the fix


def limited(recorded: Timeline, edited: Timeline, least_ns: float) -> Timeline:
    """The edited timeline, or as much of its edits as leaves a mean step of at least `least_ns`.

    What no longer waits, or is on another stream, stays so.

    Args:
        recorded: without edits.
        edited: with them.
        least_ns: of the mean step by replay.
    """
    if walk(edited) >= least_ns:
        return edited
    low, high = 0.0, 1.0
    for _ in range(_TRIES):
        middle = (low + high) / 2
        low, high = (middle, high) if walk(_in_part(recorded, edited, middle)) >= least_ns else (low, middle)
    return _in_part(recorded, edited, low)


def _in_part(recorded: Timeline, edited: Timeline, part: float) -> Timeline:
    """The edited timeline with times that are so much of the way from those without edits."""
    return replace(
        edited,
        calls=_calls(recorded.calls, edited.calls, part),
        operations=_operations(recorded.operations, edited.operations, part),
    )


def _calls(before: Calls, after: Calls, part: float) -> Calls:
    return replace(
        after,
        gap=before.gap + part * (after.gap - before.gap),
        cost=before.cost + part * (after.cost - before.cost),
        deliveries=tuple(_delivery(*both, part) for both in zip(before.deliveries, after.deliveries, strict=True)),
    )


def _delivery(before: Delivery, after: Delivery, part: float) -> Delivery:
    return replace(after, after_ns=before.after_ns + part * (after.after_ns - before.after_ns))


def _operations(before: Operations, after: Operations, part: float) -> Operations:
    return replace(
        after,
        duration=before.duration + part * (after.duration - before.duration),
        latency=before.latency + part * (after.latency - before.latency),
        gap=before.gap + part * (after.gap - before.gap),
    )
