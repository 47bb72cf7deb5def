"""The fixes that help, all at once; where they disturb each other, without the one that is missed least."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mfu_doctor.result.trial import BETTER
from mfu_doctor.trial.estimate import SMALLEST
from mfu_doctor.trial.findings import refusal
from mfu_doctor.trial.turns import Arm, Turns


def together(turns: Turns, helping: Sequence[Arm]) -> Arm | None:
    """Try these at once.

    Args:
        turns: what was measured so far, each of these alone included.
        helping: those that help alone, each of one remedy.

    Returns:
        The set that shortens the step most, which may be one of them alone; the set that failed, if no smaller one could be
        measured; None if there are fewer than two to try.
    """
    known = {frozenset(arm.names): arm for arm in helping}
    best = _best_of_each(turns, helping)
    if len(best) < 2:
        return None
    present = _tried(turns, known, best)
    while len(present.fixes) > 1 and _disturbed(turns, known, present):
        smaller = [_tried(turns, known, _without(known, present, name)) for name in present.names]
        least = min(smaller, key=lambda arm: _middle(turns, arm))
        if math.isinf(_middle(turns, least)) or _middle(turns, least) > _middle(turns, present) + math.log1p(SMALLEST):
            break  # none of them is known to be spared
        present = least
    return present


def _best_of_each(turns: Turns, helping: Sequence[Arm]) -> list[Arm]:
    """Of a remedy with several settings, and of remedies that exclude each other, the best one."""
    best: dict[str, Arm] = {}
    for arm in helping:
        remedy = arm.fixes[0].remedy
        name = remedy.one_of or remedy.name
        if name not in best or _middle(turns, arm) < _middle(turns, best[name]):
            best[name] = arm
    return list(best.values())


def _tried(turns: Turns, known: dict[frozenset[str], Arm], arms: Sequence[Arm]) -> Arm:
    fixes = tuple(fix for arm in arms for fix in arm.fixes)
    arm = known.setdefault(frozenset(fix.name for fix in fixes), Arm(fixes))
    turns.settle([arm])
    return arm


def _without(known: dict[frozenset[str], Arm], arm: Arm, name: str) -> list[Arm]:
    return [known[frozenset([fix.name])] for fix in arm.fixes if fix.name != name]


def _disturbed(turns: Turns, known: dict[frozenset[str], Arm], arm: Arm) -> bool:
    """Whether they save less at once than each alone says: then one of them may do no good beside the others."""
    change = turns.change(arm)
    if change is None or arm.failure is not None or refusal(turns, arm) is not None:
        return arm.failure is not None or change is not None
    expected = math.fsum(_middle(turns, known[frozenset([name])]) for name in arm.names)
    return turns.verdict(arm) != BETTER or change.low > expected


def _middle(turns: Turns, arm: Arm) -> float:
    """How much shorter it makes the step; endless where it is no answer."""
    change = turns.change(arm)
    if change is None or arm.failure is not None or refusal(turns, arm) is not None:
        return math.inf
    return change.middle
