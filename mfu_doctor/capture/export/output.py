"""The files of one capture: the trace, and until that is written a small one that says what was seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.export.amend import amend_capture
from mfu_doctor.capture.export.at_hand import at_hand
from mfu_doctor.capture.export.export import write_again, write_capture
from mfu_doctor.capture.export.so_far import SoFar


class Output:
    """What a capture writes.

    Args:
        places: where modules are found (see `at_hand`).

    Attributes:
        path: the trace; None before it is written, or if it could not be.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.path: Path | None = None
        self._places = places
        self._so_far = SoFar()

    def keep(self, capture: Capture) -> None:
        """A step has ended, and the next one has not begun."""
        if not self._so_far.is_due(capture):
            return  # nothing of the interpreter is touched in most steps
        with at_hand(self._places):
            self._so_far.keep(capture)

    def write(self, capture: Capture) -> None:
        """The recording is over; called again when the block ends later, or when another recording is over."""
        with at_hand(self._places):
            if capture.facts is None:
                self._write(capture)
            elif self.path is not None:
                amend_capture(capture, self.path)

    def _write(self, capture: Capture) -> None:
        self._so_far.keep(capture)
        self.path = write_capture(capture) if capture.former is None else write_again(capture, self.path)
        if self.path is not None:
            self.forget()

    def forget(self) -> None:
        """There is nothing more to say than the trace does, or nothing at all."""
        self._so_far.drop()
