"""Waiting for another thread of this process for so long of the process's own time, not of the clock's.

A process that is stopped for seconds (a machine that swaps, a container that is paused, a debugger) has waited for nobody
meanwhile: its threads were stopped, too. One long wait would be over when it goes on; of many short ones only one is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread

_TURN_S = 0.05
# Of a turn so much counts: it is longer if the process was stopped, or if another thread did not let Python go.
_MOST_OF_A_TURN_S = 0.25


class Patience:
    """So much time for several waits together.

    Args:
        longest_s: seconds of the process's own time.
        clock: tells the seconds.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._clock = longest_s, clock

    def __bool__(self) -> bool:
        """Whether some is left."""
        return self._left > 0

    def came(self, wait: Callable[[float], bool]) -> bool:
        """Wait in turns, once at least.

        Args:
            wait: waits so many seconds at most and returns whether it came, as `Event.wait` does.

        Returns:
            Whether it came.
        """
        while True:
            turn, begin = min(_TURN_S, max(self._left, 0.0)), self._clock()
            is_there = wait(turn)
            took = self._clock() - begin
            self._left -= min(took if is_there else max(took, turn), _MOST_OF_A_TURN_S)
            if is_there or not self:
                return is_there


def came(wait: Callable[[float], bool], longest_s: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """The same for one wait of so many seconds."""
    return Patience(longest_s, clock).came(wait)


def joined(thread: Thread, longest_s: float) -> bool:
    """Wait for a thread to end; returns whether it has."""

    def ended(longest_s: float) -> bool:
        thread.join(longest_s)
        return not thread.is_alive()

    return came(ended, longest_s)
