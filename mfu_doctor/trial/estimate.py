"""What the runs of a fix say about its gain: pure functions of step times.

Each run is one value: what its steps take. Each run with the fix is compared with the unchanged runs just before and after it, so
that a machine that becomes slower does not count for or against it. An unchanged run that is far off all those around it was
disturbed: it is left out, as it would stand for the noise of all runs and beside two runs with a fix. Of the runs with a fix none
is: there may be what the fix does. The differences give an interval by Student's t: the wider
one of that of their own spread, known from so many of them alone, because a fix may make runs noisier, and that of the unchanged
runs among themselves, because a few differences that happen to be alike prove nothing. What is shorter is averaged as a share of
the unchanged step: of a step that nothing is left of, the rest may vary by any factor. Where single runs were disturbed, that
interval is wide, and the ranks of the runs say more: the shift of one set against another by Mann and Whitney. That holds for
sets of one spread, so it is not used where the runs with the fix are wider apart than the others. The narrower of the two is
used; a test draws how often both together claim what is not there. Of several fixes each may be wrong the more seldom, so that a
trial is not wrong more often than one fix would be.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from statistics import fmean, median, stdev

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.result.trial import BETTER, OPEN, SAME, WORSE

FEWEST_PAIRS = 3
MOST_PAIRS = 12
# Of each look at the interval of the only fix. It is looked at after each of ten pairs at most: together some claim is then wrong
# in 5 of 100 (Pocock, Group sequential methods, Biometrika 64, 1977, table 1: 0.0106 for ten looks).
_WRONG = 0.01
# Two runs with a fix that follow each other share the unchanged run between them. For equal noise in each run, the mean of such
# differences varies by a third more than their own variance says (1.5 + 2 / 4 of a run's, not 1.5).
_SHARED = math.sqrt(4 / 3)
_ALIKE_SPREAD = 2.0  # times: sets of one spread seldom differ by more
_BLOCKS = 5
# An unchanged run is disturbed if it is so many times as far from those around it as the usual one (a standard deviation, by the
# median). By normal noise one is in 3 of 1,000 trials of ten runs, and in 1 of 2,000 of fifteen.
_FAR = 8.0
_AROUND = 2  # runs on each side that it is compared with
_FEWEST_TO_TELL = 10  # runs
_MOST_DISTURBED = 0.2  # of the runs: of more it is the noise of this machine
_USUAL = 0.6745  # of the standard deviation of normal noise half of it lies within
SMALLEST = 0.01  # of the step: a smaller difference is none
_ALIKE = 0.03  # of the step: an interval within it says that there is no difference


class Interval(Struct, frozen=True):
    """A relative change of the step time: logarithms of its ratio, so that half and twice are alike.

    Attributes:
        low: the end at which it shortens the step most.
        middle: the estimate.
        high: the other end.
        noise: how far chance moves the estimate to both sides by the unchanged runs alone, as a share of the step; None if not
            known.
    """

    low: float
    middle: float
    high: float
    noise: float | None = None

    def of(self, step_s: float) -> tuple[float, float, float]:
        """The seconds that it saves of a step: least, estimate, most; negative where it costs time."""
        low, middle, high = (step_s * -math.expm1(end) for end in (self.high, self.middle, self.low))
        return low, middle, high


def step_of(steps_s: Sequence[float], skipped: int) -> float:
    """What a step of a run takes: the median of the means of a few blocks of consecutive steps, in seconds.

    A mean counts steps that are long every few times (a loader's); the median leaves out a block that something disturbed.

    Args:
        steps_s: all steps of the run, not empty.
        skipped: leading ones that are its beginning; of a short run no more than a third is.
    """
    kept = steps_s[min(skipped, len(steps_s) // 3) :]
    count = min(_BLOCKS, len(kept))
    edges = [len(kept) * i // count for i in range(count + 1)]
    return median(fmean(kept[a:b]) for a, b in pairwise(edges))


def mean_of(steps_s: Sequence[float], skipped: int) -> float:
    """What a step takes with all that comes seldom, such as the start of an epoch, and with all that disturbed the run."""
    return fmean(steps_s[min(skipped, len(steps_s) // 3) :])


def undisturbed(unchanged: Sequence[float]) -> list[int]:
    """The numbers of the unchanged runs that count, of their step times in order."""
    logs = [math.log(step) for step in unchanged]
    everything = list(range(len(logs)))
    if len(logs) < _FEWEST_TO_TELL:
        return everything
    off = [abs(logs[i] - median(logs[max(i - _AROUND, 0) : i] + logs[i + 1 : i + 1 + _AROUND])) for i in everything]
    far = max(_FAR * median(off) / _USUAL, _ALIKE)
    kept = [i for i in everything if off[i] <= far]
    return kept if len(logs) - len(kept) <= _MOST_DISTURBED * len(logs) else everything


def differences(unchanged: Sequence[float], changed: Sequence[tuple[int, float]]) -> list[float]:
    """The logarithm of the ratio of each changed run to the unchanged ones beside it, of those that were not disturbed.

    Args:
        unchanged: step times of the unchanged runs in their order.
        changed: of each changed run, the number of the unchanged one before it, and its step time.
    """
    kept = undisturbed(unchanged)

    def beside(before: int) -> list[float]:
        after = bisect_right(kept, before)
        return [math.log(unchanged[i]) for i in kept[max(after - 1, 0) : after + 1]]

    return [math.log(step) - fmean(beside(before)) for before, step in changed]


def noise_of(unchanged: Sequence[float]) -> float:
    """How far an unchanged run is from those beside it by chance: a standard deviation, as of `differences`; 0 if not known."""
    logs = [math.log(unchanged[i]) for i in undisturbed(unchanged)]
    around = [logs[i] - (logs[i - 1] + logs[i + 1]) / 2 for i in range(1, len(logs) - 1)]
    if around:
        return math.sqrt(fmean(value * value for value in around))
    return abs(logs[1] - logs[0]) if len(logs) == 2 else 0.0


def wrong_of(fixes: int) -> float:
    """How often one look at one of so many fixes may be wrong, so that some claim of a trial is in 5 of 100 as with one fix.

    Errors that seldom happen seldom happen twice: of many fixes each of the ten looks counts fully, that is 0.05 / 10 / fixes.
    """
    return _WRONG / (2 * fixes - 1)


def interval(unchanged: Sequence[float], changed: Sequence[tuple[int, float]], fixes: int = 1) -> Interval:
    """What the fix does to the step.

    Args:
        unchanged: step times of the unchanged runs in their order.
        changed: of two or more runs with the fix, the number of the unchanged run before it, and its step time.
        fixes: how many are tried, this one included.
    """
    kept = undisturbed(unchanged)
    wrong = wrong_of(fixes) / (1 if len(kept) == len(unchanged) else 2)  # to leave out is a second chance to be wrong
    by_mean = of_mean(differences(unchanged, changed), noise_of(unchanged), len(kept), wrong)
    # One for each run with the fix: the more unchanged ones there are, the more a wider spread of the others looks like a shift.
    beside = sorted({min(before + 1, len(unchanged) - 1) for before, _ in changed}.intersection(kept))
    set_beside, with_it = [unchanged[i] for i in beside], [step for _, step in changed]
    if _spread(with_it) > _ALIKE_SPREAD * _spread(set_beside):
        return by_mean
    by_rank = of_ranks(set_beside, with_it, wrong / 2)  # it is a second chance to be wrong
    if by_rank is None or _width(by_mean) <= _width(by_rank):
        return by_mean
    by_chance = of_ranks(set_beside, set_beside, wrong / 2)
    return replace(by_rank, noise=by_chance.high * _noisy_part(by_rank.middle) if by_chance is not None else None)


def of_mean(values: Sequence[float], noise: float, unchanged: int, wrong: float = _WRONG) -> Interval:
    """Student's interval for the mean of these differences.

    Args:
        values: two or more.
        noise: as of `noise_of`.
        unchanged: of so many runs.
        wrong: how often it may be.
    """
    shares = [_share(value) for value in values]
    middle = fmean(shares)
    by_chance = half_width(noise * _noisy_part(_change(middle)), len(shares), unchanged, wrong)
    half = max(half_width(stdev(shares), len(shares), wrong=wrong), by_chance)
    return Interval(_change(middle - half), _change(middle), _change(middle + half), by_chance)


def _noisy_part(change: float) -> float:
    """What the noise of a run is a share of, in unchanged steps: its own step, if that is shorter."""
    return min(math.exp(change), 1.0)


def _share(change: float) -> float:
    """A change as it is averaged: what is shorter as a share of the unchanged step, what is longer as the logarithm."""
    return math.expm1(change) if change < 0 else change


def _change(share: float) -> float:
    """The inverse of `_share`; endless if nothing is left of the step."""
    if share >= 0:
        return share
    return math.log1p(share) if share > -1 else -math.inf


def _width(interval: Interval) -> float:
    return _share(interval.high) - _share(interval.low)


def of_ranks(unchanged: Sequence[float], changed: Sequence[float], wrong: float = _WRONG) -> Interval | None:
    """The interval for the shift between two sets of runs, of which only the order counts; None of too few runs for any."""
    shifts = sorted(math.log(step / other) for step in changed for other in unchanged)
    every, orders, out = math.comb(len(unchanged) + len(changed), len(changed)), 0, 0
    while (orders := orders + _orders(len(unchanged), len(changed), out)) <= every * wrong / 2:
        out += 1  # so many of the smallest and of the largest shifts may be left out
    return Interval(shifts[out - 1], median(shifts), shifts[-out]) if out else None


def _spread(steps: Sequence[float]) -> float:
    """How far the usual run is from the middle of its set; single disturbed runs do not count."""
    logs = [math.log(step) for step in steps]
    middle = median(logs)
    return median(abs(value - middle) for value in logs)


@cache
def _orders(first: int, second: int, pairs: int) -> int:
    """In how many orders of two sets of runs so many pairs are in the wrong order (Mann and Whitney, 1947)."""
    if pairs < 0:
        return 0
    if not first or not second:
        return int(pairs == 0)
    return _orders(first - 1, second, pairs - second) + _orders(first, second - 1, pairs)


def half_width(spread: float, count: int, unchanged: int = 0, wrong: float = _WRONG) -> float:
    """Half of the interval for the mean of so many values of this standard deviation.

    Args:
        spread: known from the values, and from the unchanged runs: of these each is compared with both neighbours, so that two
            comparisons say about as much as an independent one.
        count: the values.
        unchanged: the unchanged runs; 0 if the spread is that of the values alone.
        wrong: how often it may be.
    """
    freedom = count - 1 + max(unchanged - 2, 0) // 2
    return _SHARED * student(1 - wrong / 2, freedom) * spread / math.sqrt(count)


def judged(change: Interval) -> str:
    """What an interval says; it is only asked when there are `FEWEST_PAIRS`."""
    if change.high < 0 and change.middle <= math.log1p(-SMALLEST):
        return BETTER
    if change.low > 0 and change.middle >= math.log1p(SMALLEST):
        return WORSE
    if max(-change.low, change.high) <= _ALIKE:
        return SAME
    return OPEN


def agrees(said: str, with_all: Sequence[float]) -> bool:
    """Whether the whole means do not contradict a word that was said of the usual steps: a fix may act once in an epoch only.

    Args:
        said: the word.
        with_all: differences of `mean_of`.
    """
    middle = fmean(with_all)
    fits = {BETTER: middle < 0, WORSE: middle > 0, SAME: abs(middle) <= _ALIKE}
    return fits.get(said, True)


@cache
def student(share: float, freedom: int) -> float:
    """Student's t of so many degrees of freedom below which this share (more than a half) lies."""
    low, high = 0.0, 1.0
    while _below(high, freedom) < share:
        high *= 2
    for _ in range(60):  # halves of the range, to the last bits of a float
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < share else (low, middle)
    return high


def _below(t: float, freedom: int) -> float:
    """The share of Student's t that lies below a positive value (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    odd = freedom % 2
    term = cosine if odd else 1.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * i / (i + 1)
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 + inside) / 2
