"""What is claimed of drawn step times: seldom anything where there is nothing, and what there is."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies

from mfu_doctor.result.trial import BETTER, OPEN, SAME, WORSE
from mfu_doctor.trial.estimate import (
    FEWEST_PAIRS,
    MOST_PAIRS,
    Interval,
    differences,
    half_width,
    interval,
    judged,
    noise_of,
    of_mean,
    of_ranks,
    step_of,
    undisturbed,
)


def verdict(times: random.Random, ratio: float, noise: float, drift: float = 0.0, with_it: float = 1.0) -> str:
    """Runs in turns, as `Turns` does them, until it is settled; with the fix their noise is so many times as large."""
    unchanged, changed, now = [_drawn(times, noise)], list[tuple[int, float]](), 0.0
    while len(changed) < MOST_PAIRS:
        now += drift
        changed.append((len(unchanged) - 1, ratio * _drawn(times, with_it * noise) * math.exp(now)))
        now += drift
        unchanged.append(_drawn(times, noise) * math.exp(now))
        if len(changed) >= FEWEST_PAIRS:
            said = judged(interval(unchanged, changed))
            if said != OPEN:
                return said
    return OPEN


def verdicts(times: random.Random, fixes: int, noise: float, with_them: float) -> set[str]:
    """What is said of fixes that do nothing, in one trial of all."""
    unchanged, arms, said = [times.gauss(0, noise)], [list[tuple[int, float]]() for _ in range(fixes)], set[str]()
    rest = list(range(fixes))
    for pairs in range(1, MOST_PAIRS + 1):
        for i in rest:
            arms[i].append((len(unchanged) - 1, times.gauss(0, with_them)))
            unchanged.append(times.gauss(0, noise))
        around = [math.exp(step) for step in unchanged]
        for i in rest if pairs >= FEWEST_PAIRS else []:
            now = judged(interval(around, [(before, math.exp(step)) for before, step in arms[i]], fixes))
            said.add(now)
            rest = [other for other in rest if other != i or now == OPEN]
    return said


# Steps of unchanged runs of two programs in their order, in milliseconds, as `try` printed them on a machine with other work.
RECORDED = (
    (98.9, 84.7, 92.0, 94.0, 104, 104, 99.0, 102, 105, 105, 102, 104, 103, 187, 110),
    (13.6, 12.2, 8.83, 13.8, 11.1, 10.7, 9.57),
)


def again(times: random.Random, runs: int) -> list[float]:
    """So many runs of the program against itself: stretches of four of one recorded sequence, which keep what lasts longer."""
    logs = [math.log(step) for step in times.choice(RECORDED)]
    found: list[float] = []
    while len(found) < runs:
        at = times.randrange(len(logs))
        found += [math.exp(logs[(at + i) % len(logs)]) for i in range(4)]
    return found[:runs]


def _odd(times: random.Random, noise: float, often: float) -> float:
    """A step time; some runs are disturbed by many times the usual noise."""
    far = noise * (5 + abs(times.gauss(0, 10))) if times.random() < often else 0.0
    return math.exp(times.gauss(0.0, noise) + far)


def said_of(runs: list[float]) -> str:
    """What is said of a fix that does nothing, of runs that take turns."""
    unchanged, changed = runs[:1], list[tuple[int, float]]()
    for with_it, without in zip(runs[1::2], runs[2::2], strict=False):
        changed.append((len(unchanged) - 1, with_it))
        unchanged.append(without)
        said = judged(interval(unchanged, changed)) if len(changed) >= FEWEST_PAIRS else OPEN
        if said != OPEN:
            return said
    return OPEN


def _drawn(times: random.Random, noise: float) -> float:
    """A step time; one run in ten is disturbed by three times the usual noise."""
    return math.exp(times.gauss(0.0, noise * (3 if times.random() < 0.1 else 1)))


@pytest.mark.parametrize("fixes", [1, 8])
@pytest.mark.parametrize(("noise", "with_them"), [(0.01, 0.01), (0.01, 0.05), (0.05, 0.01)])
def test_a_trial_of_fixes_that_do_nothing_claims_a_difference_at_most_once_in_twenty(
    fixes: int, noise: float, with_them: float
) -> None:
    """However many there are, and however noisy the runs with them are."""
    times, trials = random.Random(11), 160 // fixes
    claims = sum(not verdicts(times, fixes, noise, with_them).isdisjoint((BETTER, WORSE)) for _ in range(trials))
    assert claims <= trials / 20


@pytest.mark.parametrize("with_it", [0.2, 5.0])
def test_a_fix_that_only_changes_the_noise_is_said_to_differ_at_most_once_in_twenty(with_it: float) -> None:
    times, trials = random.Random(13), 400
    claims = sum(verdict(times, 1.0, 0.01, with_it=with_it) in (BETTER, WORSE) for _ in range(trials))
    assert claims <= trials / 20


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_a_program_against_itself_is_said_to_differ_at_most_once_in_twenty(noise: float, drift: float) -> None:
    times, trials = random.Random(7), 400
    claims = sum(verdict(times, 1.0, noise, drift) in (BETTER, WORSE) for _ in range(trials))
    assert claims <= trials / 20


@pytest.mark.parametrize("often", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_odd_runs_make_nobody_claim_more(noise: float, often: float) -> None:
    times, trials = random.Random(17), 400
    runs = ([_odd(times, noise, often) for _ in range(2 * MOST_PAIRS + 1)] for _ in range(trials))
    assert sum(said_of(each) in (BETTER, WORSE) for each in runs) <= trials / 20


def test_recorded_runs_against_themselves_are_said_to_differ_at_most_once_in_twenty() -> None:
    times, trials = random.Random(19), 400
    claims = sum(said_of(again(times, 2 * MOST_PAIRS + 1)) in (BETTER, WORSE) for _ in range(trials))
    assert claims <= trials / 20


def test_an_odd_unchanged_run_ruins_no_other_figure() -> None:
    """Runs that `try` printed: 187 ms came once, in the last turns, and nothing but the loader was settled."""
    unchanged = RECORDED[0]
    assert undisturbed(unchanged) == [i for i in range(15) if i != 13]
    alone = interval(unchanged, [(2, 81.6), (5, 89.3), (8, 90.0), (10, 91.4)], 4)
    both = interval(unchanged, [(11, 40.1), (12, 40.6), (13, 40.2)], 4)
    assert [judged(alone), judged(both)] == [BETTER, BETTER]
    assert both.of(103.0) == pytest.approx((51, 64, 76), abs=1.0)


@settings(max_examples=60, deadline=None)
@given(
    runs=strategies.lists(strategies.floats(0.99, 1.01), min_size=10, max_size=15),
    odd=strategies.integers(0, 14),
    by=strategies.sampled_from([0.2, 0.5, 2.0, 30.0]),
)
def test_how_far_off_one_run_is_does_not_matter(runs: list[float], odd: int, by: float) -> None:
    """What is said is the same however far the disturbed run is off."""
    at = odd % len(runs)
    changed = [(i, 0.9) for i in range(0, len(runs) - 1, 2)]
    found = [interval([*runs[:at], far, *runs[at + 1 :]], changed) for far in (by, by * by)]
    assert found[0] == found[1]


@settings(max_examples=60, deadline=None)
@given(runs=strategies.lists(strategies.floats(0.5, 2.0), min_size=1, max_size=15))
def test_at_most_a_fifth_of_the_runs_is_left_out(runs: list[float]) -> None:
    kept = undisturbed(runs)
    assert len(runs) - len(kept) <= len(runs) / 5
    assert kept == sorted(set(kept))


@pytest.mark.parametrize(("ratio", "said"), [(0.7, BETTER), (1.4, WORSE), (1.0, SAME)])
def test_what_there_is_is_nearly_always_found(ratio: float, said: str) -> None:
    times = random.Random(3)
    found = [verdict(times, ratio, 0.005) for _ in range(200)]
    assert found.count(said) > 190


def test_a_difference_below_a_hundredth_is_none() -> None:
    times = random.Random(5)
    assert BETTER not in {verdict(times, 0.995, 0.0005) for _ in range(100)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Interval(-0.3, -0.2, -0.1), BETTER),
        (Interval(-0.3, -0.1, 0.1), OPEN),
        (Interval(-0.02, -0.005, 0.01), SAME),
        (Interval(-0.009, -0.006, -0.003), SAME),
        (Interval(0.1, 0.2, 0.3), WORSE),
    ],
)
def test_the_words_of_an_interval(change: Interval, said: str) -> None:
    assert judged(change) == said


def test_the_seconds_of_an_interval() -> None:
    """Half of a step of 2 s saves one second; twice costs two."""
    low, middle, high = Interval(math.log(0.5), math.log(0.5), math.log(2.0)).of(2.0)
    assert (low, middle, high) == pytest.approx((-2.0, 1.0, 1.0))


@pytest.mark.parametrize(("count", "quantile"), [(2, 63.657), (3, 9.925), (6, 4.032), (10, 3.250)])
def test_the_interval_is_students(count: int, quantile: float) -> None:
    """99 % of Student's t (published tables), a third wider in variance for the unchanged runs that two pairs share."""
    assert half_width(1.0, count, 2) == pytest.approx(quantile * math.sqrt(4 / 3 / count), rel=1e-4)


def test_unchanged_runs_tell_the_spread_too() -> None:
    """Three pairs and eight unchanged runs: two and three degrees of freedom."""
    assert half_width(1.0, 3, 8) == pytest.approx(4.032 * math.sqrt(4 / 3 / 3), rel=1e-3)


def test_few_alike_differences_do_not_hide_the_noise() -> None:
    assert judged(of_mean([-0.05, -0.05, -0.05], 0.05, 4)) == OPEN
    assert judged(of_mean([-0.05, -0.05, -0.05], 0.001, 4)) == BETTER


def test_the_rest_of_a_step_may_vary_by_any_factor() -> None:
    """A step of 100 ms becomes one of 2 to 20 ms: nearly all of it is saved, however often the rest is disturbed."""
    rest = [math.log(0.02), math.log(0.2), math.log(0.05)]
    found = of_mean(rest, 0.05, 4)
    assert judged(found) == BETTER
    assert found.of(0.1) == pytest.approx((0.036, 0.091, 0.1), abs=0.02)


def test_the_noise_of_a_shorter_step_is_a_share_of_that() -> None:
    """Runs of a loaded machine: each with the fix is far below each without it."""
    unchanged, changed = [2.17, 1.66, 1.03, 1.34], list(enumerate([0.612, 0.680, 0.755]))
    assert interval(unchanged, changed).middle == pytest.approx(math.log(0.49), abs=0.02)
    assert judged(interval(unchanged, [*changed, (3, 0.65)])) == BETTER


def test_the_noise_beside_a_saving_is_no_larger_than_its_range_says() -> None:
    """Runs that were tried on a loaded machine: 333 ms of 557 are saved, not less than 40, so the noise cannot be 590."""
    unchanged, changed = [0.770, 0.472, 0.347, 0.696, 0.557], list(enumerate([0.258, 0.245, 0.119, 0.207]))
    change = interval(unchanged, changed)
    assert change.noise is not None
    saved = change.of(1.0)
    assert change.noise <= saved[1] - saved[0] + 1e-9


def test_the_noise_beside_a_range_by_ranks_is_by_ranks() -> None:
    """One unchanged run was disturbed."""
    unchanged = [0.100, 0.101, 0.100, 0.102, 0.100, 0.300, 0.100, 0.101, 0.100, 0.102]
    change = interval(unchanged, list(enumerate([0.060, 0.061, 0.062, 0.060, 0.061, 0.060, 0.063, 0.062, 0.061])))
    assert change.noise == pytest.approx(0.01, abs=0.005)


def test_one_disturbed_run_does_not_hide_what_all_others_show() -> None:
    """The fix takes 40 %, and one run with it was disturbed by other programs."""
    unchanged = [0.10, 0.11, 0.10, 0.12, 0.10, 0.11, 0.10, 0.10, 0.11, 0.12]
    changed = list(enumerate([0.060, 0.061, 0.062, 0.300, 0.060, 0.061, 0.063, 0.062, 0.061]))
    assert judged(of_mean(differences(unchanged, changed), noise_of(unchanged), len(unchanged))) == OPEN
    assert judged(interval(unchanged, changed)) == BETTER


@pytest.mark.parametrize(
    ("first", "second", "left_out"), [(3, 3, None), (4, 4, None), (5, 5, 1), (6, 6, 3), (8, 8, 8), (10, 10, 17)]
)
def test_the_interval_of_ranks_is_that_of_the_tables(first: int, second: int, left_out: int | None) -> None:
    """Critical values of Mann and Whitney's U for one percent on two sides: 0, 2, 7, 16 (published tables), one more is kept."""
    unchanged = [math.exp(i) for i in range(first)]
    changed = [math.exp(100 + 20 * i) for i in range(second)]
    found = of_ranks(unchanged, changed)
    shifts = sorted(math.log(b / a) for a in unchanged for b in changed)
    assert (found is None) == (left_out is None)
    if found is not None and left_out is not None:
        assert (found.low, found.high) == (shifts[left_out - 1], shifts[-left_out])


def test_a_step_counts_what_comes_every_few_steps() -> None:
    """Two workers load: every second step waits."""
    assert step_of([9.0, 9.0] + [0.1, 0.3] * 10, 2) == pytest.approx(0.2)


def test_a_step_leaves_out_what_disturbed_it_once() -> None:
    assert step_of([9.0] + [0.2] * 9 + [5.0] + [0.2] * 10, 1) == pytest.approx(0.2)


def test_a_short_run_keeps_two_thirds_of_its_steps() -> None:
    assert step_of([9.0, 9.0, 0.2, 0.2, 0.2, 0.2], 5) == pytest.approx(0.2)


def test_a_slower_machine_counts_for_nobody() -> None:
    """Each run is 1 % slower than the one before it."""
    times = [math.exp(0.01 * i) for i in range(7)]
    unchanged = times[::2]
    changed = [(i, step) for i, step in enumerate(times[1::2])]
    assert differences(unchanged, changed) == pytest.approx([0.0, 0.0, 0.0])


def test_the_noise_is_that_of_neighbours() -> None:
    steady = [math.exp(0.1 * i) for i in range(5)]
    assert noise_of(steady) == pytest.approx(0.0, abs=1e-12)
    assert noise_of([1.0, 1.1, 1.0, 1.1]) == pytest.approx(math.log(1.1))
    assert all(noise_of([a, b]) == pytest.approx(abs(math.log(a / b))) for a, b in pairwise([1.0, 1.1, 1.3]))
    assert noise_of([1.0]) == 0.0
