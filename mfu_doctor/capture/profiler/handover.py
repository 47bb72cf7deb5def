"""How one thread ends the recording of another: between two of its steps, for no other thread may stop its profiler session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

from mfu_doctor.capture.patience import Patience
from mfu_doctor.capture.profiler.session import WAIT_FOR_OWNER_S

if TYPE_CHECKING:
    from mfu_doctor.capture.profiler.phase_runner import PhaseRunner


@contextmanager
def between_steps(runner: PhaseRunner, lock: RLock, why: str) -> Iterator[bool]:
    """Hold back the thread that trains while no session is open in it; yields whether that came about in time.

    Args:
        runner: what opens the sessions.
        lock: held by that thread whenever it does something of ours.
        why: what ended its recording, if one is open.
    """
    patience, free = Patience(WAIT_FOR_OWNER_S), False
    while not free and patience and runner.ask_to_stop(why, patience):
        if not patience.came(lambda longest_s: lock.acquire(timeout=longest_s)):
            break
        free = not runner.attached_elsewhere
        if not free:  # the next one was opened meanwhile
            lock.release()
    try:
        yield free
    finally:
        if free:
            lock.release()
