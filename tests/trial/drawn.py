"""A bench whose runs are drawn: what each set of fixes makes of the step, and how much a run differs from the next."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mfu_doctor.trial.bench import OUT_OF_TIME, Failure
from mfu_doctor.trial.orders import Measured
from mfu_doctor.trial.remedies.remedy import Chosen, Numerics, Remedy

Curves: TypeAlias = dict[tuple[str, ...], Callable[[int], float | None]]

STEPS = 20
SKIPPED = 5
FIRST_S = 2.0


def fix(name: str, numerics: Numerics = Numerics.SAME, samples: float = 1.0) -> Chosen:
    """A fix that is only a name."""
    remedy = Remedy(
        name=name.partition("=")[0],
        answers=("input-bound",),
        words=name,
        line=f"use({name!r})",
        numerics=numerics,
        why_not=lambda _: None,
        apply=lambda _: None,
        samples=lambda _: samples,
    )
    return Chosen(remedy, name.partition("=")[2] or None)


def falling(step: int) -> float:
    """The loss of a program that learns."""
    return 4.0 * math.exp(-step / 30)


@dataclass
class Drawn:
    """The runs of a program.

    Attributes:
        step_s: seconds of its step with each set of fixes; a set that is not there is as fast as its fastest member.
        noise: relative, of a run.
        failures: of a set of fixes.
        losses: of a set of fixes, by step; the others are `falling`.
        most: runs that there is time for.
        ran: what ran, in its order.
    """

    step_s: Mapping[tuple[str, ...], float]
    noise: float = 0.002
    failures: Mapping[tuple[str, ...], Failure] = field(default_factory=dict)
    losses: Curves = field(default_factory=dict)
    first_s: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    most: int = 1000
    ran: list[tuple[str, ...]] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def left(self) -> int:
        """How many more runs there is time for."""
        return self.most - len(self.ran)

    def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
        """One run."""
        if not self.left():
            return Failure(OUT_OF_TIME, "0 steps")
        self.ran.append(names)
        if names in self.failures:
            return self.failures[names]
        step = self.step_s.get(names) or min(self.step_s[(name,)] for name in names)
        loss = self.losses.get(names, falling)
        return Measured(
            steps_s=(step * math.exp(self._chance.gauss(0, self.noise)),) * STEPS,
            first_s=self.first_s.get(names, FIRST_S),
            losses=tuple(loss(i) for i in range(STEPS)),
            loss_steps=tuple(range(1, STEPS + 1)),
            effects=tuple(name.partition("=")[0] for name in names if name not in self.idle),
        )
