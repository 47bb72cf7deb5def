"""What a step of a recorded run is, in words, where that is not simply one batch and one step of the optimizer."""

from __future__ import annotations

from mfu_doctor.facts import Facts, OptimizerFacts
from mfu_doctor.quantities import number

# Fetches for an update that are more than one, and not one fetch too many at the end of an epoch.
_SEVERAL = 1.5


def step_content(facts: Facts | None) -> str | None:
    """Which updates and batches a step has, as profile() saw them; None if it has one of each, or if nothing tells."""
    if facts is None:
        return None
    often = [(optimizer, optimizer.per_step) for optimizer in facts.optimizers if optimizer.per_step is not None]
    if any(count != 1 for _, count in often):
        return "a step is " + " and ".join(_updates(optimizer, count) for optimizer, count in often)
    batches = facts.micro_batches
    if batches is not None and batches >= _SEVERAL:
        return f"a step is one update after {number(batches)} batches"
    return None


def _updates(optimizer: OptimizerFacts, count: float) -> str:
    which = optimizer.class_name
    if optimizer.elements is not None:
        which += f" ({number(optimizer.elements)} parameters)"
    if count < 1:
        return f"in one of {number(1 / count)} steps 1 by {which}"
    return f"{number(count)} {'update' if count == 1 else 'updates'} by {which}"
