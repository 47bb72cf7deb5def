"""Runs fixes and the unchanged program in turns until each fix is settled or the time is over.

The unchanged program runs before and after every run with a fix, so that each is compared with what surrounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Protocol

from msgspec import Struct, field

from mfu_doctor.errors import DoctorError
from mfu_doctor.result.trial import BETTER, DIVERGES, NO_EFFECT, NOT_A_NUMBER, OPEN
from mfu_doctor.trial.bench import OUT_OF_TIME, Failure
from mfu_doctor.trial.estimate import (
    FEWEST_PAIRS,
    MOST_PAIRS,
    Interval,
    agrees,
    differences,
    interval,
    judged,
    mean_of,
    noise_of,
    step_of,
    undisturbed,
)
from mfu_doctor.trial.losses import LossChange, loss_change, not_a_number
from mfu_doctor.trial.orders import Measured
from mfu_doctor.trial.remedies.remedy import Chosen

_NO_TIME = "the time was over"
_USUAL_PAIRS = 5  # that settle a fix; so many are planned for, and run before another one has its turn


class Runs(Protocol):
    """Where the program runs: see `Bench`."""

    def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
        """Run it with these remedies."""

    def left(self) -> int:
        """How many more runs there is time for; 0 if there is none."""


class Arm(Struct):
    """What is tried: one fix, or several together.

    Attributes:
        fixes: the remedies.
        runs: each run, with the number of the unchanged run before it.
        failure: why there are no more.
    """

    fixes: tuple[Chosen, ...]
    runs: list[tuple[int, Measured]] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its remedies, as the user names them."""
        return tuple(chosen.name for chosen in self.fixes)

    @property
    def samples(self) -> float:
        """Samples of a step in multiples of the unchanged program's."""
        product = 1.0
        for chosen in self.fixes:
            product *= chosen.samples
        return product


class Turns(Struct):
    """The runs so far, and what they say.

    Args:
        bench: where the program runs.
        skipped: leading steps of a run that are its beginning.
        tell: is told after each run: what ran, and what its step took or why there is none.
    """

    bench: Runs
    skipped: int
    tell: Callable[[str, float | Failure], None]
    unchanged: list[Measured] = field(default_factory=list)
    ended: str | None = None  # why it was over before all was settled
    _failed: bool = False  # the unchanged program cannot be measured any more
    _fixes: int = 1  # that are tried, each alone; sets are made of those that help, so they add few claims
    _for_set: Sequence[Arm] = ()  # of these, those that help will be tried together
    _planned: int = 0  # runs that there was time for when they began

    def settle(self, arms: Sequence[Arm], *, then_together: bool = False) -> None:
        """Run these in turns until all are settled or the time is over; few at a time if there is not time for all.

        Args:
            arms: what to run.
            then_together: whether to leave time for those that help, at once.

        Raises:
            DoctorError: the unchanged program cannot be measured.
        """
        if not self.unchanged:
            self._run_unchanged()
        self._fixes = max(self._fixes, len(arms))
        self._for_set, self._planned = arms if then_together and len(arms) > 1 else (), self.bench.left()
        # asked anew after each group: what was settled is open again if later runs show that the machine is noisier
        while (rest := [arm for arm in arms if self.is_open(arm)]) and self._has_time():
            at_once = max(self.bench.left() // (2 * _USUAL_PAIRS), 1)
            rest.sort(
                key=lambda arm: len(arm.runs) // _USUAL_PAIRS
            )  # what noise keeps open comes again after all others
            self._settle_group(rest[:at_once])

    def settle_rest(self, arms: Sequence[Arm]) -> None:
        """Spend on these what was left for a set of fixes, where there is none to try."""
        if self.ended == _NO_TIME:
            self.ended = None
        self.settle(arms)

    def is_open(self, arm: Arm) -> bool:
        """Whether more runs would say more."""
        if arm.failure is not None or len(arm.runs) >= MOST_PAIRS:
            return False
        losses = self.losses(arm)
        if losses is not None and losses.kind in (NOT_A_NUMBER, DIVERGES):
            return False
        return self.verdict(arm) == OPEN

    def change(self, arm: Arm) -> Interval | None:
        """What it does to the step, per sample; None if there are too few runs to say."""
        steps = self._steps(arm, self._step)
        if len(steps) < 2:
            return None
        return interval([self._step(run) for run in self.unchanged], steps, self._fixes)

    def verdict(self, arm: Arm) -> str:
        """The word for it, as far as time goes."""
        change = self.change(arm)
        if change is None or len(arm.runs) < FEWEST_PAIRS:
            return OPEN
        said, with_all = judged(change), self._steps(arm, self._mean)
        return said if agrees(said, differences([self._mean(run) for run in self.unchanged], with_all)) else OPEN

    def _steps(self, arm: Arm, step: Callable[[Measured], float]) -> list[tuple[int, float]]:
        """Of each run with it, the number of the unchanged one before it, and its step per sample."""
        return [(before, step(run) / arm.samples) for before, run in arm.runs if before < len(self.unchanged)]

    @property
    def step_s(self) -> float:
        """The step of the unchanged program."""
        return median(self._step(run) for run in self.unchanged)

    @property
    def noise(self) -> float | None:
        """How far one unchanged run is from those beside it, as a share; None of fewer than two."""
        return noise_of([self._step(run) for run in self.unchanged]) if len(self.unchanged) > 1 else None

    @property
    def disturbed_s(self) -> tuple[float, ...]:
        """The steps of unchanged runs that are left out."""
        steps = [self._step(run) for run in self.unchanged]
        kept = undisturbed(steps)
        return tuple(step for i, step in enumerate(steps) if i not in kept)

    def noise_s(self, arm: Arm) -> float | None:
        """How far chance alone moves what it saves, by the unchanged runs, in seconds; None if there are too few."""
        change = self.change(arm)
        return change.noise * self.step_s if change is not None and change.noise is not None else None

    def losses(self, arm: Arm) -> LossChange | None:
        """What it does to the losses; of larger batches, whose losses are others, only whether they are numbers."""
        if not arm.runs:
            return None
        compare = loss_change if arm.samples == 1.0 else not_a_number
        return compare([run.losses for run in self.unchanged], [run.losses for _, run in arm.runs])

    def start_s(self, arm: Arm) -> float | None:
        """Seconds that its first run needed more than the unchanged program before its steps were as usual.

        0 if an unchanged run needed as long. What is compiled is kept on disk, so that later runs are ready sooner.
        """
        if not arm.runs:
            return None
        ready_s, usual = arm.runs[0][1].ready_s(self.skipped), [run.ready_s(self.skipped) for run in self.unchanged]
        return ready_s - median(usual) if ready_s > max(usual) else 0.0

    def step_with(self, arm: Arm) -> float | None:
        """The step with it."""
        return median(self._step(run) for _, run in arm.runs) if arm.runs else None

    def _step(self, run: Measured) -> float:
        return step_of(run.steps_s, self.skipped)

    def _mean(self, run: Measured) -> float:
        return mean_of(run.steps_s, self.skipped)

    def _settle_group(self, group: Sequence[Arm]) -> None:
        for _ in range(_USUAL_PAIRS):
            if not group or not self._has_time():
                return
            for arm in group:
                self._pair(arm)
            group = [arm for arm in group if self.is_open(arm)]

    def _has_time(self) -> bool:
        """Whether one more pair may run."""
        if self._failed:
            return False
        if self.bench.left() < 2 + self._spare():
            self.ended = _NO_TIME
            return False
        return True

    def _spare(self) -> int:
        """Runs left for the set once two fixes are known to help: the fewest that settle it, at most a quarter of all."""
        helping = sum(arm.failure is None and self.verdict(arm) == BETTER for arm in self._for_set)
        return min(2 * FEWEST_PAIRS, self._planned // 4) if helping > 1 else 0

    def _pair(self, arm: Arm) -> None:
        """One run with the fix, and the unchanged one after it."""
        if not self._has_time():
            return
        result = self.bench.measure(arm.names)
        if isinstance(result, Failure):
            self.tell(" + ".join(arm.names), result)
            if result.kind == OUT_OF_TIME:
                self.ended = _NO_TIME
            else:
                arm.failure = result
            return
        idle = [fix.name for fix in arm.fixes if fix.remedy.name not in result.effects]
        if idle:
            arm.failure = Failure(NO_EFFECT, f"the program does nothing that {', '.join(idle)} changes")
            self.tell(" + ".join(arm.names), arm.failure)
            return
        self.tell(" + ".join(arm.names), self._step(result) / arm.samples)
        arm.runs.append((len(self.unchanged) - 1, result))
        self._run_unchanged()

    def _run_unchanged(self) -> None:
        result = self.bench.measure()
        if isinstance(result, Measured):
            self.tell("unchanged", self._step(result))
            self.unchanged.append(result)
            return
        self.tell("unchanged", result)
        if not self.unchanged:
            raise DoctorError(f"the unchanged program cannot be measured: {result.kind} ({result.reason})")
        self._failed = True
        self.ended = _NO_TIME if result.kind == OUT_OF_TIME else f"an unchanged run failed ({result})"
