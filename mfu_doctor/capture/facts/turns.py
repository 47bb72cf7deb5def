"""What the threads of this process had of the cores: the time that each was on one, and the time that it was in line for one.

Linux counts both for every thread (`/proc/PID/task/TID/schedstat`). Reading takes some microseconds for each thread: it is
done at the two ends of the timed steps and not in them.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from mfu_doctor.capture.facts.system_files import text_of
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.units import NS_PER_S

# Threads of autograd run the backward pass of a GPU; on a CPU the thread that calls backward() does.
_BACKWARD = "pt_autograd"


@dataclass(frozen=True, slots=True)
class Threads:
    """The threads of this process at one moment.

    Attributes:
        turns: nanoseconds on a core and in line for one, by the system's number of the thread.
        training: number of the thread that asked.
        python: numbers of the other threads that Python started.
        backward: numbers of those that autograd started.
    """

    turns: dict[int, tuple[int, int]]
    training: int
    python: frozenset[int]
    backward: frozenset[int]


def threads_now(proc: Path) -> Threads | None:
    """Read the counts; None if the system does not tell.

    Args:
        proc: where the system lists its processes, in the form of Linux's /proc.
    """
    tasks, mine = proc / "self" / "task", threading.get_native_id()
    try:
        numbers = [int(name) for name in os.listdir(tasks)]  # noqa: PTH208 - names only, and fast
    except OSError:
        return None
    turns = {number: turn for number in numbers if (turn := _turn(tasks / str(number))) is not None}
    if not turns.get(mine, (0, 0))[0]:  # a system that does not count writes zeros
        return None
    others = {thread.native_id for thread in threading.enumerate()} - {mine, None}
    backward = (n for n in turns if (text_of(tasks / str(n) / "comm") or "").startswith(_BACKWARD))
    return Threads(turns, mine, frozenset(n for n in others if n is not None), frozenset(backward))


def core_turns(before: Threads | None, after: Threads | None, wall_s: float) -> CoreTurns | None:
    """What the threads had between two moments; None if it is not known.

    Args:
        before: the first moment; its thread is the one that trains.
        after: the second one.
        wall_s: seconds between them.
    """
    if before is None or after is None or before.training not in after.turns:
        return None
    issuing = after.backward | {before.training}
    pool = after.turns.keys() - issuing - (before.python | after.python)
    had = {n: _since(before.turns.get(n, (0, 0)), turn) for n, turn in after.turns.items()}

    def share(nanoseconds: int) -> float:
        return round(nanoseconds / NS_PER_S / wall_s, 4)

    return CoreTurns(
        training_ran=share(sum(had[n][0] for n in issuing)),
        training_waited=share(sum(had[n][1] for n in issuing)),
        pool_threads=sum(1 for n in pool if had[n][0]),
        pool_ran=share(sum(had[n][0] for n in pool)),
        pool_waited=share(sum(had[n][1] for n in pool)),
        pool_most_waited=share(max((had[n][1] for n in pool), default=0)),
    )


def _turn(task: Path) -> tuple[int, int] | None:
    fields = (text_of(task / "schedstat") or "").split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 3 and all(f.isdigit() for f in fields) else None


def _since(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """What came between two counts; a number that the system gave to a new thread meanwhile counts from its beginning."""
    began = before if after[0] >= before[0] and after[1] >= before[1] else (0, 0)
    return after[0] - began[0], after[1] - began[1]
