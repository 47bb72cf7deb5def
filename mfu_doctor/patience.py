"""Waiting for another thread of this process for so long of the process's own time, not of the clock's.

A process that is stopped for seconds (a machine that swaps, a container that is paused, a debugger) has waited for nobody
meanwhile: its threads were stopped, too. One long wait would be over when it goes on; of many short ones only one is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread

_TURN_S = 0.05
_MOST_OF_A_TURN_S = (
    0.25  # that counts: a turn is longer if the process was stopped, or if another thread did not let Python go
)


def came(wait: Callable[[float], bool], longest_s: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait in turns.

    Args:
        wait: waits so many seconds at most and returns whether it came, as `Event.wait` does.
        longest_s: for all turns together.
        clock: tells the seconds.

    Returns:
        Whether it came.
    """
    left = longest_s
    while True:
        turn, begin = min(_TURN_S, left), clock()
        if wait(turn):
            return True
        left -= min(max(clock() - begin, turn), _MOST_OF_A_TURN_S)
        if left <= 0:
            return False


def joined(thread: Thread, longest_s: float) -> bool:
    """Wait for a thread to end; returns whether it has."""

    def ended(longest_s: float) -> bool:
        thread.join(longest_s)
        return not thread.is_alive()

    return came(ended, longest_s)
