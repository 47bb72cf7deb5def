"""`Recorder.batches(iterable)`: marks data loading for loaders that are not a torch DataLoader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mfu_doctor.capture.capture import Capture

T = TypeVar("T")

MARK = "mfu_doctor.fetch"
"""Name of the annotation in the trace around the loading of each batch."""


class Batches(Generic[T]):
    """An iterable that notes how long each batch takes. It has the length of the source.

    Args:
        source: yields the batches.
        open_capture: gives what receives the notes; None outside of the block, and in a forked child.
    """

    def __init__(self, source: Iterable[T], open_capture: Callable[[], Capture | None]) -> None:
        self._source = source
        self._open_capture = open_capture

    def __len__(self) -> int:
        """Number of batches, if the source has a length."""
        return len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        """Iterate once over the source."""
        iterator = iter(self._source)
        while True:
            try:
                batch = self._fetch(iterator)
            except StopIteration:
                return
            yield batch

    def _fetch(self, iterator: Iterator[T]) -> T:
        capture = self._open_capture()
        listener = capture.listener if capture is not None and capture.signs.thread.here else None
        if capture is None or listener is None:
            return next(iterator)
        listener.fetch_begins(iterator)
        start, batch, exhausted = time.perf_counter_ns(), None, False
        try:
            with capture.phase_runner.annotated(MARK):
                batch = next(iterator)
        except StopIteration:
            exhausted = True
            raise
        finally:
            wait_ns, listener = time.perf_counter_ns() - start, capture.listener  # the recording may just have ended
            if listener is not None:
                listener.fetch_ends(iterator, batch, wait_ns, exhausted=exhausted)
        return batch
