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
