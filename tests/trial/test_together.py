"""The fixes that help, at once: all of them, or without the one that adds nothing."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.result.trial import BETTER, CRASHED, Trial
from mfu_doctor.trial.bench import Failure
from mfu_doctor.trial.estimate import FEWEST_PAIRS
from mfu_doctor.trial.remedies.remedy import Chosen
from mfu_doctor.trial.together import together
from mfu_doctor.trial.trying import Choice, _found
from mfu_doctor.trial.turns import Arm, Turns
from tests.sample_report import full_report
from tests.trial.drawn import SKIPPED, Drawn, fix

A, B, C = ("a",), ("b",), ("c",)
ALONE = {(): 0.1, A: 0.08, B: 0.09, C: 0.095}


def best_of(bench: Drawn, *names: str) -> tuple[str, ...] | None:
    turns = Turns(bench, SKIPPED, lambda *_: None)
    arms = [Arm((fix(name),)) for name in names]
    turns.settle(arms, then_together=True)
    arm = together(turns, arms)
    return None if arm is None else arm.names


def test_fixes_that_do_not_disturb_each_other_are_all_kept() -> None:
    assert best_of(Drawn(ALONE | {("a", "b", "c"): 0.1 * 0.8 * 0.9 * 0.95}), "a", "b", "c") == ("a", "b", "c")


def test_one_that_adds_nothing_beside_another_is_dropped() -> None:
    assert best_of(Drawn(ALONE | {("a", "b"): 0.08}), "a", "b") == ("a",)


def test_of_three_the_one_that_does_harm_is_dropped() -> None:
    steps = ALONE | {("a", "b", "c"): 0.085, ("b", "c"): 0.0855, ("a", "c"): 0.08, ("a", "b"): 0.072}
    assert best_of(Drawn(steps), "a", "b", "c") == ("a", "b")


def test_two_that_crash_together_leave_the_better_one() -> None:
    bench = Drawn(ALONE, failures={("a", "b"): Failure(CRASHED, "RuntimeError: both")})
    assert best_of(bench, "a", "b") == ("a",)


def test_of_one_fix_with_two_settings_the_better_one_counts() -> None:
    steps = {(): 0.1, ("n=2",): 0.08, ("n=4",): 0.07, ("b",): 0.09, ("n=4", "b"): 0.063}
    assert best_of(Drawn(steps), "n=2", "n=4", "b") == ("n=4", "b")


def test_of_two_fixes_that_exclude_each_other_the_better_one_counts() -> None:
    bench = Drawn(ALONE)
    turns = Turns(bench, SKIPPED, lambda *_: None)
    arms = [
        Arm((Chosen(replace(fix(name).remedy, one_of=one_of)),))
        for name, one_of in zip("abc", ("o", "o", None), strict=True)
    ]
    turns.settle(arms, then_together=True)
    together(turns, arms)
    assert {names for names in bench.ran if len(names) > 1} == {("a", "c")}


def test_one_alone_is_tried_already() -> None:
    assert best_of(Drawn(ALONE), "a") is None


def test_time_is_left_for_the_set() -> None:
    """Of 40 runs those that settle a set are left once two fixes help, however little the third one is settled."""
    bench = Drawn({(): 0.1, A: 0.02, B: 0.03, C: 0.098}, noise=0.05, most=40)
    turns = Turns(bench, SKIPPED, lambda *_: None)
    turns.settle([Arm((fix(name),)) for name in "abc"], then_together=True)
    assert bench.left() in (2 * FEWEST_PAIRS, 2 * FEWEST_PAIRS + 1)
    assert turns.ended == "the time was over"


def test_what_was_left_for_a_set_is_spent_where_there_is_none() -> None:
    """One fix helps and the other is never settled: all runs are theirs."""
    bench = Drawn({(): 0.1, A: 0.02, B: 0.09}, noise=0.2, most=28)
    turns = Turns(bench, SKIPPED, lambda *_: None)
    turns.settle([Arm((fix("a"),)), Arm((fix("b"),))], then_together=True)
    assert bench.left() < 2


def test_a_set_that_fails_when_time_is_over_leaves_the_best_one_alone() -> None:
    """No smaller set could be measured: the answer is the best of those that were, and the others are left out."""
    bench = Drawn(ALONE | {A: 0.05}, failures={("a", "b", "c"): Failure(CRASHED, "RuntimeError: all")}, most=30)
    turns = Turns(bench, SKIPPED, lambda *_: None)
    arms = [Arm((fix(name),)) for name in "abc"]
    turns.settle(arms, then_together=True)
    assert [turns.verdict(arm) for arm in arms] == [BETTER] * 3
    bench.most = len(bench.ran) + 2  # time for the set only
    both = together(turns, arms)
    found = _found(Trial(program="x", budget_s=60), turns, Choice(tuple(arms)), both, full_report())
    assert found.together is not None
    assert (found.together.fixes, found.together.verdict) == (("a", "b", "c"), CRASHED)
    assert found.answer is not None
    assert found.answer.fixes == A
    assert found.without == ("b", "c")


def test_no_time_is_left_for_a_set_before_one_of_it_helps() -> None:
    bench = Drawn({(): 0.1, A: 0.09, B: 0.09}, noise=0.3, most=20)
    turns = Turns(bench, SKIPPED, lambda *_: None)
    turns.settle([Arm((fix("a"),)), Arm((fix("b"),))], then_together=True)
    assert bench.left() < 2
