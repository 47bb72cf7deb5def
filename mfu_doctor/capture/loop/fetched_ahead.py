"""Which of the batches that a loop has fetched its step works on, where they are fetched some batches ahead.

accelerate, and with it the Trainer of transformers, fetches the next batch before it hands one out, so that it knows the last
one; other loops do so to copy it in time. The first step of a loader then fetches as many more than the others as it is ahead.
"""

from __future__ import annotations

from mfu_doctor.capture.loop.batches import Batch, Loader

_TELLING = 3  # steps: two of one number after the first one


class FetchedAhead:
    """Follows the loader that comes first, and those after it. What others bring meanwhile is of the step that they bring it in.

    Attributes:
        depth: how many batches it is ahead; None: not known yet.
    """

    def __init__(self) -> None:
        self.depth: int | None = None
        self._loader: Loader | None = None
        self._counts: list[int] = []  # of the first steps
        self._fetched: list[Batch] = []  # and of no step yet
        self._new = 0  # of these, since the last step
        self._over = False

    def fetched(self, loader: Loader, batch: Batch) -> bool:
        """A loader brought a batch; returns whether it is kept here.

        By the time that this is told it may be gone itself, with the epoch that it was of: only another one takes its place.
        """
        if self._loader is not loader:
            if self._loader is not None and self._loader.iterator() is not None:
                return False
            self._loader, self._over = loader, False
            self._fetched.clear()  # else what is left over of a loader that nobody has any more is of the next step
        self._fetched.append(batch)
        self._new += 1
        return True

    def ended(self, loader: Loader) -> None:
        """A loader brings no more."""
        self._over = self._over or self._loader is loader

    def of_step(self) -> list[Batch]:
        """A step has ended: the batches that it worked on."""
        if self.depth is None:
            self._learn()
        kept = 0 if self._over else self.depth or 0
        first = max(len(self._fetched) - kept, 0)
        worked, self._fetched, self._new = self._fetched[:first], self._fetched[first:], 0
        if self._over:
            self._leave()
        return worked

    def forget(self) -> None:
        """What came since the last step was none: what a loader brought that has ended is of no step."""
        if self._over:
            self._fetched.clear()
            self._leave()

    def _learn(self) -> None:
        self._counts.append(self._new)
        if len(self._counts) == _TELLING:
            first, second, third = self._counts
            self.depth = first - second if first > second == third > 0 else 0

    def _leave(self) -> None:
        """The next loader is followed, from its first step on."""
        self._loader, self._over, self._new = None, False, 0
        self._counts.clear()
