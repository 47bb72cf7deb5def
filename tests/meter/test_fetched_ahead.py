"""Which batches a step works on where they are fetched ahead of it."""

from __future__ import annotations

import weakref

from mfu_doctor.capture.loop.batches import Batch, Loader
from mfu_doctor.capture.loop.fetched_ahead import FetchedAhead


class Iterator:
    """Stands for that of a loader."""


def of(iterator: Iterator) -> Loader:
    """What is known of it."""
    return Loader(weakref.ref(iterator))


def drawn(*steps: int, loader: Loader | None = None, ahead: FetchedAhead | None = None) -> list[list[object]]:
    """The batches of each step of an epoch, by the number of those that are fetched in it; then the loader ends."""
    alive = Iterator()
    loader, ahead = loader or of(alive), ahead or FetchedAhead()
    found, number = [], 0
    for step, count in enumerate(steps):
        for _ in range(count):
            assert ahead.fetched(loader, Batch(number, 1, None))
            number += 1
        if step == len(steps) - 1:
            ahead.ended(loader)
        found.append([batch.shapes for batch in ahead.of_step()])
    return found


def test_without_a_lead_each_step_has_what_is_fetched_in_it() -> None:
    assert drawn(2, 2, 2, 2) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_after_three_steps_it_is_known_that_a_batch_is_fetched_ahead() -> None:
    assert drawn(2, 1, 1, 1, 1, 0)[3:] == [[3], [4], [5]]


def test_an_epoch_that_is_too_short_to_tell_does_not_mislead() -> None:
    ahead = FetchedAhead()
    drawn(2, 0, ahead=ahead)
    assert ahead.depth is None
    assert drawn(2, 1, 1, 1, 0, ahead=ahead)[3:] == [[3], [4]]


def test_several_batches_in_a_step_and_one_ahead() -> None:
    assert drawn(3, 2, 2, 2, 1)[3:] == [[6, 7], [8, 9]]


def test_what_another_loader_brings_is_not_followed() -> None:
    ahead, first, second = FetchedAhead(), Iterator(), Iterator()
    assert ahead.fetched(of(first), Batch(0, 1, None))
    assert not ahead.fetched(of(second), Batch(1, 1, None))


def test_a_loader_that_was_left_early_leaves_nothing() -> None:
    ahead, first = FetchedAhead(), Iterator()
    loader = of(first)
    for count in (2, 1, 1):
        for _ in range(count):
            ahead.fetched(loader, Batch("first", 1, None))
        ahead.of_step()
    del first
    assert drawn(2, 1, 1, ahead=ahead) == [[0], [1], [2, 3]]


def test_a_loader_that_is_gone_when_its_batches_are_told_is_still_one_loader() -> None:
    ahead, dead = FetchedAhead(), Iterator()
    of_dead = of(dead)
    del dead
    found = []
    for count in (2, 1, 1, 1, 0):
        for _ in range(count):
            assert ahead.fetched(of_dead, Batch(0, 1, None))
        if not count:
            ahead.ended(of_dead)
        found.append(len(ahead.of_step()))
    assert found == [2, 1, 0, 1, 1]
    assert drawn(2, 1, 0, ahead=ahead) == [[0], [1], [2]]
