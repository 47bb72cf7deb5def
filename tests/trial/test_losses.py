"""What is said of drawn losses: the same, as far apart as two unchanged runs, drifting, or not to be had."""

from __future__ import annotations

import math
import random

import pytest

from mfu_doctor.result.trial import (
    AS_UNCHANGED,
    CLOSE,
    DIVERGES,
    DRIFTS,
    IDENTICAL,
    NO_LOSS,
    NOT_A_NUMBER,
    OTHER_ORDER,
)
from mfu_doctor.trial.losses import loss_change

CURVE = [4.0 * math.exp(-i / 30) for i in range(40)]


def noisy(seed: int, noise: float = 0.1, shift: float = 0.0) -> list[float]:
    drawn = random.Random(seed)
    return [loss * (1 + drawn.gauss(0, noise)) + shift for loss in CURVE]


def test_the_same_bits_are_identical_over_the_common_steps() -> None:
    assert loss_change([CURVE, CURVE], [CURVE[:20]]).kind == IDENTICAL
    assert loss_change([noisy(1), noisy(2)], [noisy(2)]).kind == IDENTICAL


def test_a_program_without_a_seed_is_as_far_from_itself() -> None:
    runs = [noisy(seed) for seed in range(4)]
    assert loss_change(runs, [noisy(9)]).kind in (AS_UNCHANGED, OTHER_ORDER)


def begun(seed: int, shift: float = 0.0) -> list[float]:
    """A run of a program without a seed: the weights that it begins with shift all its losses."""
    drawn = random.Random(seed)
    usual = drawn.gauss(0, 0.1) + shift
    return [loss * (1 + usual) + drawn.gauss(0, 0.05) for loss in CURVE[:17]]


def test_a_program_without_a_seed_is_seldom_said_to_learn_another_thing() -> None:
    """Three runs with a fix that does nothing, against four."""
    kinds = [
        loss_change([begun(7 * i + k) for k in range(4)], [begun(7 * i + k) for k in range(4, 7)]).kind
        for i in range(400)
    ]
    assert kinds.count(DRIFTS) + kinds.count(DIVERGES) <= 8


def test_another_course_is_seen_of_a_program_without_a_seed() -> None:
    unchanged = [begun(seed) for seed in range(5)]
    assert loss_change(unchanged, [begun(seed, shift=0.6) for seed in range(5, 9)]).kind == DRIFTS


def test_every_run_with_the_fix_counts() -> None:
    assert loss_change([CURVE, CURVE], [CURVE, noisy(3, noise=0.01, shift=0.3)]).kind == DRIFTS
    assert loss_change([CURVE, CURVE], [CURVE, [*CURVE[:7], None, *CURVE[8:]]]).kind == NOT_A_NUMBER


def test_the_last_bits_are_close() -> None:
    change = loss_change([CURVE, CURVE], [[loss * (1 + 1e-6 * i) for i, loss in enumerate(CURVE)]])
    assert change.kind == CLOSE
    assert change.most == pytest.approx(3.9e-5, rel=0.01)


def test_other_batches_keep_the_course() -> None:
    change = loss_change([CURVE, CURVE], [noisy(3)])
    assert change.kind == OTHER_ORDER


def test_another_course_drifts_from_its_first_other_loss() -> None:
    change = loss_change(
        [CURVE, CURVE], [[loss if i < 10 else loss * (1 + 0.01 * (i - 9)) for i, loss in enumerate(CURVE)]]
    )
    assert (change.kind, change.at) == (DRIFTS, 10)


def test_a_loss_that_is_no_number_is_told_from_its_first_step() -> None:
    change = loss_change([CURVE, CURVE], [[*CURVE[:7], None, *CURVE[8:]]])
    assert (change.kind, change.at) == (NOT_A_NUMBER, 7)


def test_a_program_whose_own_loss_is_no_number_is_compared_before_that() -> None:
    broken = [*CURVE[:7], None, *CURVE[8:]]
    assert loss_change([broken, broken], [[loss * 1.00001 for loss in CURVE]]).kind == CLOSE


def test_ever_larger_losses_diverge() -> None:
    change = loss_change([CURVE, CURVE], [[4.0 * 1.2**i for i in range(40)]])
    assert (change.kind, change.at) == (DIVERGES, 1)


def test_a_steady_shift_is_another_course() -> None:
    assert loss_change([CURVE, CURVE], [noisy(3, noise=0.01, shift=0.3)]).kind == DRIFTS


def test_without_losses_there_is_nothing_to_say() -> None:
    assert loss_change([[], []], [[]]).kind == NO_LOSS
    assert loss_change([[None], [None]], [[1.0]]).kind == NO_LOSS


def test_a_loss_that_has_come_down_to_nothing_is_compared_with_what_it_was() -> None:
    learnt = [0.1**i for i in range(12)]
    assert loss_change([learnt, learnt], [[loss + 1e-7 for loss in learnt]]).kind == CLOSE


def test_losses_of_zero_are_compared() -> None:
    assert loss_change([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]]).kind == IDENTICAL
    assert loss_change([[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0]]).kind in (DRIFTS, OTHER_ORDER, DIVERGES)
