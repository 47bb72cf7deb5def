"""cold-workers: workers that start again are priced over the recorded steps."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import LoaderFacts
from mfu_doctor.rules.input.cold_workers import cold_workers
from tests.rules.drawing import WORKERS, compute
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def epochs(first: int, persistent: bool | None) -> Any:
    drawn = Timeline()
    for step in range(9):
        with drawn.step():
            drawn.fetch(first if step == 4 else 300, WORKERS)
            compute(drawn, 2_000)
            drawn.sync()
    loader = LoaderFacts(class_name="DataLoader", num_workers=4, persistent_workers=persistent, fetches=9)
    return run_of(drawn, loaders=(loader,))


def test_workers_that_start_again_are_priced_over_the_recorded_steps() -> None:
    run = epochs(80_300, False)
    judged = 7  # nine steps, of which the first is warm-up and the last has no end on the device
    assert price_us(cold_workers, run).mid_ns == close(80_000 / judged)
    assert "persistent_workers=True" in found(cold_workers, run).fix


@pytest.mark.parametrize(("first", "persistent"), [(80_300, True), (300, False)])
def test_persistent_or_quick_workers_are_no_finding(first: int, persistent: bool) -> None:
    silent(cold_workers, epochs(first, persistent))
