"""When Python's garbage collector runs, and whether the program asked it to."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Protocol

from mfu_doctor.capture.loop.forks import Process

Watch = Callable[[str, dict[str, int]], None]


class Told(Protocol):
    """Is told of a collection that has ended, on its thread; see `Listener.collected`."""

    def __call__(self, start_ns: int, duration_ns: int, generation: int, *, asked: bool) -> None:
        """It ran for so long (unix nanoseconds, nanoseconds)."""


def garbage_watch(told: Callable[[], Told]) -> Watch:
    """A callback for `gc.callbacks`: each collection is told, but not those of processes that are forked from this one.

    Args:
        told: gives who is to be told now.
    """
    forks = Process.forks
    # Unix nanoseconds, perf_counter nanoseconds, asked for; the collector never runs inside itself.
    started = [0, 0, False]

    def watch(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            started[:] = time.time_ns(), time.perf_counter_ns(), _asked()
        elif started[0] and Process.forks == forks:
            told()(started[0], time.perf_counter_ns() - started[1], info["generation"], asked=bool(started[2]))

    return watch


def _asked() -> bool:
    """Whether `gc.collect()` began it: by itself Python collects only when its youngest generation is above its threshold."""
    threshold = gc.get_threshold()[0]  # 0: never by itself
    return not threshold or gc.get_count()[0] <= threshold or not gc.isenabled()
