"""Fixes run in turns with the unchanged program until they are settled, with drawn step times."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.errors import DoctorError
from mfu_doctor.result.trial import (
    BETTER,
    CRASHED,
    DIVERGES,
    DRIFTS,
    IDENTICAL,
    NO_EFFECT,
    NOT_A_NUMBER,
    NOT_TRIED,
    OPEN,
    REFUSED,
    SAME,
    WORSE,
    Tried,
)
from mfu_doctor.trial.bench import Failure
from mfu_doctor.trial.estimate import FEWEST_PAIRS, MOST_PAIRS
from mfu_doctor.trial.findings import tried
from mfu_doctor.trial.orders import Measured
from mfu_doctor.trial.remedies.catalogue import remedy_named
from mfu_doctor.trial.remedies.remedy import Chosen, Numerics
from mfu_doctor.trial.turns import Arm, Turns
from tests.runs import finding, report_of, steady
from tests.sample_report import full_report
from tests.trial.drawn import FIRST_S, SKIPPED, Curves, Drawn, falling, fix

UNCHANGED = ()


def turns(bench: Drawn) -> Turns:
    return Turns(bench, SKIPPED, lambda *_: None)


def found(bench: Drawn, *fixes: Chosen) -> list[Tried]:
    at_turns = turns(bench)
    arms = [Arm((chosen,)) for chosen in fixes]
    at_turns.settle(arms)
    return [tried(at_turns, arm, full_report()) for arm in arms]


def test_they_run_in_turns() -> None:
    bench = Drawn({UNCHANGED: 0.1, ("fast",): 0.05})
    found(bench, fix("fast"))
    assert bench.ran == [UNCHANGED, *[("fast",), UNCHANGED] * FEWEST_PAIRS]


def test_each_of_several_has_an_unchanged_run_on_both_sides() -> None:
    bench = Drawn({UNCHANGED: 0.1, ("a",): 0.05, ("b",): 0.07})
    found(bench, fix("a"), fix("b"))
    assert bench.ran == [UNCHANGED, *[("a",), UNCHANGED, ("b",), UNCHANGED] * FEWEST_PAIRS]


@pytest.mark.parametrize(("step_s", "verdict"), [(0.05, BETTER), (0.1, SAME), (0.2, WORSE)])
def test_the_verdict_is_that_of_the_step_times(step_s: float, verdict: str) -> None:
    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): step_s}), fix("it"))
    assert one.verdict == verdict
    assert one.saving_s == pytest.approx(0.1 - step_s, abs=0.002)
    assert one.saving_low_s is not None
    assert one.saving_high_s is not None
    assert one.saving_low_s <= 0.1 - step_s <= one.saving_high_s


@pytest.mark.parametrize(("seldom_s", "usual_s"), [(0.0, 0.1), (4.0, 0.08)])
def test_what_acts_once_in_an_epoch_is_not_judged_by_the_other_steps(seldom_s: float, usual_s: float) -> None:
    """One step of twenty begins an epoch: without that nothing is said to be no different, and with it nothing better."""

    class Epochs(Drawn):
        def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
            run = super().measure(names)
            assert isinstance(run, Measured)
            return replace(run, steps_s=(*run.steps_s[:10], seldom_s if names else 2.0, *run.steps_s[11:]))

    (one,) = found(Epochs({UNCHANGED: 0.1, ("it",): usual_s}), fix("it"))
    assert one.verdict == OPEN


def test_what_is_not_settled_stops_after_so_many_pairs() -> None:
    bench = Drawn({UNCHANGED: 0.1, ("it",): 0.095}, noise=0.2)
    (one,) = found(bench, fix("it"))
    assert (one.verdict, one.runs) == (OPEN, MOST_PAIRS)


def test_what_was_settled_is_tried_again_when_the_machine_becomes_noisier() -> None:
    """The second fix is tried beside other programs, which shows that the first one may have been luck."""

    class Noisier(Drawn):
        def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
            self.noise = 0.3 if len(self.ran) > 2 * FEWEST_PAIRS else 0.002
            return super().measure(names)

    bench = Noisier({UNCHANGED: 0.1, ("a",): 0.09, ("b",): 0.09}, most=70)
    at_turns, arms = turns(bench), [Arm((fix("a"),)), Arm((fix("b"),))]
    at_turns.settle(arms[:1])
    assert len(arms[0].runs) == FEWEST_PAIRS
    at_turns.settle(arms)
    assert len(arms[0].runs) > FEWEST_PAIRS
    assert not any(at_turns.is_open(arm) for arm in arms)


def test_with_little_time_one_fix_is_settled_before_the_next_begins() -> None:
    bench = Drawn({UNCHANGED: 0.1, ("a",): 0.05, ("b",): 0.05}, most=12)
    first, second = found(bench, fix("a"), fix("b"))
    assert (first.verdict, second.verdict) == (BETTER, OPEN)
    assert len(bench.ran) <= 12


def test_what_noise_keeps_open_does_not_take_the_time_of_the_others() -> None:
    class Noisy(Drawn):
        def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
            self.noise = 0.5 if names == ("a",) else 0.002
            return super().measure(names)

    first, second = found(Noisy({UNCHANGED: 0.1, ("a",): 0.1, ("b",): 0.05}, most=19), fix("a"), fix("b"))
    assert (first.verdict, second.verdict) == (OPEN, BETTER)


def test_of_a_recording_that_tells_shares_a_prediction_is_a_share_of_the_measured_step() -> None:
    """The profiler made the recorded steps twice as long."""
    report = report_of(steady(0.2), diagnoses=(finding(),), savings_are_shares=True)
    at_turns, arm = (
        turns(Drawn({UNCHANGED: 0.1, ("loader-workers=4",): 0.05})),
        Arm((remedy_named("loader-workers=4"),)),
    )
    at_turns.settle([arm])
    one = tried(at_turns, arm, report)
    assert (one.predicted_low_s, one.predicted_s, one.predicted_high_s) == pytest.approx(
        (0.037, 0.0405, 0.044), rel=0.01
    )


def test_what_never_ran_was_not_tried() -> None:
    first, second = found(Drawn({UNCHANGED: 0.1, ("a",): 0.05}, most=7), fix("a"), fix("b"))
    assert first.verdict == BETTER
    assert (second.verdict, second.reason) == (NOT_TRIED, "the time was over")


def test_a_larger_batch_counts_per_sample() -> None:
    (one,) = found(Drawn({UNCHANGED: 0.1, ("batch=2",): 0.15}), fix("batch=2", samples=2.0))
    assert one.verdict == BETTER
    assert one.saving_s == pytest.approx(0.025, abs=0.001)
    assert one.loss is None


def test_a_failure_is_the_verdict_and_is_not_repeated() -> None:
    bench = Drawn({UNCHANGED: 0.1}, failures={("it",): Failure(CRASHED, "ValueError: no")})
    (one,) = found(bench, fix("it"))
    assert (one.verdict, one.reason, one.runs) == (CRASHED, "ValueError: no", 0)
    assert bench.ran.count(("it",)) == 1


def test_a_fix_that_the_program_never_comes_to_has_no_effect() -> None:
    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): 0.05}, idle=frozenset({"it"})), fix("it"))
    assert one.verdict == NO_EFFECT


def test_an_unchanged_program_that_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(DoctorError, match="ValueError"):
        found(Drawn({}, failures={UNCHANGED: Failure(CRASHED, "ValueError: no")}), fix("it"))


def test_losses_that_are_no_numbers_are_refused_whatever_is_gained() -> None:
    losses: Curves = {("it",): lambda step: None if step >= 6 else falling(step)}
    bench = Drawn({UNCHANGED: 0.1, ("it",): 0.01}, losses=losses)
    (one,) = found(bench, fix("it", Numerics.CHANGES))
    assert (one.verdict, one.loss, one.loss_step) == (REFUSED, NOT_A_NUMBER, 7)
    assert bench.ran.count(("it",)) == 1  # no gain could make up for it


def test_diverging_losses_are_refused_whatever_is_gained() -> None:
    losses: Curves = {("it",): lambda step: 4.0 * 2.0**step}
    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): 0.01}, losses=losses), fix("it", Numerics.CHANGES))
    assert (one.verdict, one.loss) == (REFUSED, DIVERGES)


@pytest.mark.parametrize(
    ("numerics", "verdict"), [(Numerics.SAME, REFUSED), (Numerics.ROUNDING, REFUSED), (Numerics.CHANGES, BETTER)]
)
def test_another_course_is_refused_of_a_fix_that_should_keep_it(numerics: Numerics, verdict: str) -> None:
    losses: Curves = {("it",): lambda step: falling(step) * (1 + 0.01 * step)}
    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): 0.05}, losses=losses), fix("it", numerics))
    assert (one.verdict, one.loss, one.loss_step) == (verdict, DRIFTS, 2)


def test_the_same_losses_are_identical_and_a_later_start_is_told() -> None:
    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): 0.05}, first_s={("it",): 12.0}), fix("it"))
    assert one.loss == IDENTICAL
    assert one.start_s == pytest.approx(12.0 - FIRST_S - 4 * 0.05, abs=0.01)


def test_a_later_start_is_not_told_where_unchanged_runs_start_as_late() -> None:
    """The machine was busy: once the unchanged program needed 20 s before its first step."""

    class Busy(Drawn):
        def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
            run = super().measure(names)
            assert isinstance(run, Measured)
            return replace(run, first_s=20.0) if len(self.ran) == 3 else run

    (one,) = found(Busy({UNCHANGED: 0.1, ("it",): 0.05}, first_s={("it",): 12.0}), fix("it"))
    assert one.start_s == 0.0


def test_one_run_whose_loss_is_no_number_is_enough() -> None:
    """The others are fine, and one of them differs more."""
    runs = 0

    def loss(step: int) -> float | None:
        nonlocal runs
        runs += step == 0
        return None if runs == 2 and step >= 6 else falling(step) * (1.5 if runs == 1 else 1.0)

    (one,) = found(Drawn({UNCHANGED: 0.1, ("it",): 0.05}, losses={("it",): loss}), fix("it", Numerics.CHANGES))
    assert (one.verdict, one.loss, one.loss_step) == (REFUSED, NOT_A_NUMBER, 7)


def test_larger_batches_whose_loss_is_no_number_are_refused() -> None:
    losses: Curves = {("batch=2",): lambda step: None if step >= 6 else falling(step)}
    bench = Drawn({UNCHANGED: 0.1, ("batch=2",): 0.15}, losses=losses)
    (one,) = found(bench, fix("batch=2", Numerics.CHANGES, samples=2.0))
    assert (one.verdict, one.loss, one.loss_step) == (REFUSED, NOT_A_NUMBER, 7)
