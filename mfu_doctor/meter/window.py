"""The latest steps of a meter, and what they tell together. It is calculated when it is asked for, which most steps are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from mfu_doctor.meter.step_work import StepWork
from mfu_doctor.units import NS_PER_S


class Step(NamedTuple):
    """One step; None: not known.

    Attributes:
        took_ns: its time.
        waited_ns: what it waited for its batches.
        work: what it computed.
        samples: rows of its batches.
        tokens: of its batches.
        number: of the step.
    """

    took_ns: int
    waited_ns: int
    work: StepWork | None = None
    samples: int | None = None
    tokens: int | None = None
    number: int = 0


class Window(Struct, frozen=True):
    """Some consecutive steps."""

    steps: tuple[Step, ...] = ()

    @property
    def step_s(self) -> float | None:
        """Mean time of a step."""
        return sum(step.took_ns for step in self.steps) / len(self.steps) / NS_PER_S if self.steps else None

    @property
    def wait_s(self) -> float | None:
        """Mean wait of a step for its batches."""
        return sum(step.waited_ns for step in self.steps) / len(self.steps) / NS_PER_S if self.steps else None

    @property
    def mfu(self) -> float | None:
        """Ideal time over time, of the steps whose FLOPs and peak are known."""
        return self._rate(lambda step: None if step.work is None else step.work.ideal_s)

    @property
    def flops(self) -> float | None:
        """Mean FLOP of the steps in which they are known."""
        known = [flops for step in self.steps if (flops := _flops(step)) is not None]
        return sum(known) / len(known) if known else None

    @property
    def flops_s(self) -> float | None:
        """FLOP per second in those steps."""
        return self._rate(_flops)

    @property
    def samples_s(self) -> float | None:
        """Samples per second."""
        return self._rate(lambda step: step.samples)

    @property
    def tokens_s(self) -> float | None:
        """Tokens per second."""
        return self._rate(lambda step: step.tokens)

    def _rate(self, value: Callable[[Step], float | None]) -> float | None:
        """A value per second, in the steps of which it is known."""
        known = [(told, step.took_ns) for step in self.steps if (told := value(step)) is not None]
        took_ns = sum(ns for _, ns in known)
        return sum(told for told, _ in known) * NS_PER_S / took_ns if took_ns else None


def _flops(step: Step) -> float | None:
    return None if step.work is None else step.work.flops
