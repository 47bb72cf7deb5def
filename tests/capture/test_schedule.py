"""The schedule's arithmetic and the step detector on sequences that real loops rarely make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.capture.loop.edges import CUT, Edge, Source
from mfu_doctor.capture.loop.schedule import Phase, fit, length, phases
from mfu_doctor.capture.loop.steps import StepDetector
from mfu_doctor.facts import Schedule

DEFAULT = Schedule(skip=5, timed=5, warmup=3, active=5)
COUNTS = st.integers(0, 9)


@given(st.builds(Schedule, skip=COUNTS, timed=COUNTS, warmup=COUNTS, active=st.integers(1, 9)), st.integers(0, 40))
def test_a_fitted_schedule_fits_and_asks_for_nothing_more(asked: Schedule, available: int) -> None:
    got = fit(asked, available)
    assert length(got) <= available or got == asked
    for name in ("skip", "timed", "warmup", "active", "shapes"):
        assert 0 <= getattr(got, name) <= getattr(asked, name)
    if available >= length(asked):
        assert got == asked


@pytest.mark.parametrize(
    ("available", "expected"),
    [(1, (1, 0, 0, 0, 0)), (2, (1, 0, 0, 1, 0)), (3, (1, 1, 0, 1, 0)), (5, (1, 1, 0, 1, 1)), (7, (1, 1, 1, 2, 1))],
)
def test_the_most_valuable_steps_come_first(available: int, expected: tuple[int, ...]) -> None:
    got = fit(DEFAULT, available)
    assert (got.skip, got.timed, got.warmup, got.active, got.shapes) == expected


def test_windows_are_a_step_apart() -> None:
    order = [phase for phase, _ in phases(DEFAULT)]
    assert order[order.index(Phase.TIMING) + 1] is Phase.REST
    assert length(DEFAULT) == 20


TRAIN, EVALUATION = 101, 102


def fetch(detector: StepDetector, loader: int = TRAIN, *, training: bool = True, last: bool = False) -> int:
    edge = detector.fetch(loader, training=training, last=last)
    detector.fetched(loader, exhausted=last)
    return edge


def test_a_step_ends_at_the_fetch_after_the_optimizer() -> None:
    detector = StepDetector()
    assert fetch(detector) == Edge.VOID | Edge.BEGIN
    assert detector.optimizer(1) == Edge.HOLD
    assert detector.complete
    assert fetch(detector) == CUT
    assert detector.ended_fetches == 1


def test_a_better_source_forgets_the_steps_of_a_worse_one() -> None:
    detector = StepDetector()
    for _ in range(4):
        fetch(detector)
    assert detector.optimizer(1) == Edge.RESTART | Edge.HOLD
    assert fetch(detector) == CUT
    assert detector.explicit() == Edge.RESTART | CUT
    assert detector.optimizer(1) == Edge.NOTHING
    assert detector.source is Source.EXPLICIT


def test_an_optimizer_that_stepped_once_is_not_the_anchor() -> None:
    detector = StepDetector()
    assert detector.optimizer(1) == CUT  # a warm-up of its own, never seen again
    assert [detector.optimizer(2), detector.optimizer(2)] == [Edge.NOTHING] * 2
    assert detector.optimizer(2, alike=False) == Edge.MOVED | Edge.RESTART | Edge.VOID | Edge.BEGIN
    assert detector.optimizer(2) == CUT


def test_a_loop_that_steps_twice_on_a_batch_is_cut_at_its_optimizer() -> None:
    detector = StepDetector()
    fetch(detector)
    assert detector.optimizer(1) == Edge.HOLD
    assert detector.optimizer(1) == Edge.VOID | Edge.BEGIN
    assert [detector.optimizer(1), fetch(detector), detector.optimizer(1)] == [CUT, Edge.NOTHING, CUT]


def test_the_end_of_an_epoch_that_nobody_foresaw_is_no_step() -> None:
    detector = StepDetector()
    fetch(detector)
    detector.optimizer(1)
    assert detector.fetch(TRAIN, training=True, last=False) == CUT
    assert detector.fetched(TRAIN, exhausted=True) == Edge.VOID
    assert fetch(detector) == Edge.BEGIN


def test_two_optimizers_that_take_turns_count_once_for_each_step() -> None:
    """The first of a GAN's pair stays the one that steps are counted by: the second comes as often and later."""
    detector = StepDetector()
    edges = [detector.optimizer(key) for key in (1, 2, 1, 2, 1, 2)]
    assert edges == [CUT, Edge.NOTHING, CUT, Edge.NOTHING, CUT, Edge.NOTHING]


def test_a_validation_loop_begins_no_step_and_the_next_training_batch_does() -> None:
    detector = StepDetector()
    fetch(detector)
    detector.optimizer(1)
    assert fetch(detector, training=False) == Edge.END | Edge.PAUSE
    assert [fetch(detector, training=False) for _ in range(3)] == [Edge.PAUSE] * 3
    assert detector.between
    assert fetch(detector) == Edge.BEGIN
