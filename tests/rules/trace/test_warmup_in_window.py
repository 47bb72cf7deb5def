"""warmup-in-window: a slow step at the beginning is warm-up, a later one is not."""

from __future__ import annotations

from mfu_doctor.rules.trace.warmup_in_window import warmup_in_window
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop


def test_warmup_in_window() -> None:
    text = caution(warmup_in_window, run_of(loop((1_000, 5_000, 1_000, 1_000, 1_000, 1_000, 1_000))))
    assert "Warm-up" in text
    assert "5.00 ms" in text


def test_a_slow_step_later_is_no_warmup() -> None:
    silent(warmup_in_window, run_of(loop((1_000, 1_000, 1_000, 5_000, 1_000, 1_000, 1_000))))


def test_two_slow_steps_at_the_start_are_warmup() -> None:
    assert "Warm-up" in caution(warmup_in_window, run_of(loop((1_000, 5_000, 5_000, 1_000, 1_000, 1_000, 1_000))))


def test_a_slow_first_step_that_comes_again_is_other_work() -> None:
    """A checkpoint in every third step once was called warm-up, and its step told to be left out."""
    silent(warmup_in_window, run_of(loop((1_000, 5_000, 1_000, 1_000, 5_000, 1_000, 1_000))))
    timed = (0.001, 0.001, 0.0052) * 10
    silent(warmup_in_window, run_of(loop((1_000, 5_000, 1_000, 1_000, 1_000)), timed_steps_s=timed))
