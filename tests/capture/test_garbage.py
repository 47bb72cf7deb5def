"""Collections of garbage: the line that asked for one is known, and what Python does by itself is nobody's."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mfu_doctor.capture.facts.loop import LoopFacts
from mfu_doctor.capture.loop.garbage import garbage_watch
from mfu_doctor.capture.seen import Seen


@pytest.fixture
def seen() -> Seen:
    """What a recording has seen: nothing yet."""
    return Seen(LoopFacts())


@contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Collections are noted."""
    watch = garbage_watch(lambda: seen.collected)
    gc.callbacks.append(watch)
    try:
        yield
    finally:
        gc.callbacks.remove(watch)


def test_who_asks_for_a_collection_is_known(seen: Seen) -> None:
    with watched(seen):
        gc.collect()
    (pause,) = (pause for pause in seen.pauses if pause.generation == len(gc.get_threshold()) - 1)
    assert pause.place is not None
    assert "test_garbage.py:" in pause.place


def test_what_python_collects_by_itself_has_no_line(seen: Seen) -> None:
    with watched(seen):
        kept = [[i] for i in range(20 * gc.get_threshold()[0])]
    assert kept
    assert seen.pauses
    assert {pause.place for pause in seen.pauses} == {None}


@pytest.mark.parametrize("off", [gc.disable, lambda: gc.set_threshold(0)])
def test_a_collection_of_a_collector_that_is_off_was_asked_for(seen: Seen, off: Callable[[], None]) -> None:
    threshold = gc.get_threshold()
    off()
    try:
        with watched(seen):
            kept = [[i] for i in range(20 * threshold[0])]
            gc.collect(0)
    finally:
        gc.enable()
        gc.set_threshold(*threshold)
    assert kept
    assert [pause.place is None for pause in seen.pauses] == [False]
