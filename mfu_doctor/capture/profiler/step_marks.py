"""The marks of steps in the trace."""

from __future__ import annotations

from typing import Any

from mfu_doctor.capture.profiler.same_work import STEP_MARK


class StepMarks:
    """Marks one step after another; no two have one number, for what is no step is taken out by its number."""

    def __init__(self) -> None:
        self.unused = 0  # numbers given to marks of no step
        self._number = 0
        self._annotation: Any = None

    def begin(self, index: int) -> None:
        """The step of this number begins, and a profiler records."""
        from torch.autograd.profiler import record_function

        self._number = index + self.unused
        self._annotation = record_function(f"{STEP_MARK}{self._number}")
        self._annotation.__enter__()

    def end(self, stumps: list[int], *, whole: bool) -> None:
        """It ends; if it was none, or lost its session on the way, its number goes to `stumps`."""
        annotation, self._annotation = self._annotation, None
        if annotation is None:
            return
        if not whole:
            self.unused += 1
            stumps.append(self._number)
        annotation.__exit__(None, None, None)
