"""One step recorded with the shapes of its operators, on the host alone, so that its FLOPs can be counted afterwards.

A profiler changes no number of the training. A dispatch mode would: some gradients have other last bits under one, and compiled
functions run eagerly. The device is not attached, so nothing lingers there.
"""

from __future__ import annotations

from pathlib import Path

from mfu_doctor.capture.facts.settings import compiled_now
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.capture.profiler.session import Options, Session, State
from mfu_doctor.capture.profiler.step_marks import StepMarks

COMPILED = "torch.compile worked in it"


class StepShapes:
    """The recording of one step; `begin` and `end` are called between steps, by the thread that trains."""

    def __init__(self) -> None:
        self._session = Session(Options(cuda=False, shapes=True), self._close_mark)
        self._marks = StepMarks()
        self._compiled = compiled_now()

    def begin(self) -> str | None:
        """Record from now on; returns why not, if another profiler is there."""
        with without_user_modes():
            refused = self._session.start()
            if refused is None:
                self._marks.begin(0)
        return refused

    def end(self, path: Path) -> str | None:
        """The step is over: write what was recorded; returns why it cannot be used, if it cannot."""
        with without_user_modes():
            self._close_mark()
            self._session.stop()
            if self._session.ended_by is not None:
                return self._session.ended_by
            if self._session.state is not State.DONE:
                return "it was not recorded in the thread in which it began"
            if compiled_now() != self._compiled:
                self._session.discard()
                return COMPILED
            self._session.export(path)
        return None

    def give_up(self) -> None:
        """Stop recording; nothing is written."""
        with without_user_modes():
            self._close_mark()
            self._session.stop()
            self._session.discard()

    def _close_mark(self) -> None:
        self._marks.end([], whole=True)
