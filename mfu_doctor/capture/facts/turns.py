"""What the threads of this process had of the cores: the time that each was on one, and the time that it was in line for one.

Linux counts both for every thread (`/proc/PID/task/TID/schedstat`). Reading takes some microseconds for each thread: it is
done at the two ends of the timed steps and not in them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mfu_doctor.capture.facts.system_files import text_of
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.units import NS_PER_S

# Threads of autograd run the backward pass of a GPU; on a CPU the thread that calls backward() does.
_BACKWARD = "pt_autograd"
_OURS = "mfu-doctor-"  # begins the names of the recorder's own threads
_PLAIN = ("Thread", "Timer", "_MainThread", "_DummyThread")


class Threads(Struct, frozen=True):
    """The threads of this process at one moment.

    Attributes:
        turns: nanoseconds on a core and in line for one, by the system's number of the thread.
        training: number of the thread that trains.
        python: numbers and names of the other threads that Python started.
        backward: numbers of those that autograd started.
    """

    turns: dict[int, tuple[int, int]]
    training: int
    python: Mapping[int, str]
    backward: frozenset[int]


def threads_now(proc: Path, training: int | None = None) -> Threads | None:
    """Read the counts; None if the system does not tell.

    Args:
        proc: where the system lists its processes, in the form of Linux's /proc.
        training: the system's number of the thread that trains; None: the one that asks.
    """
    tasks, mine = proc / "self" / "task", training or threading.get_native_id()
    try:
        numbers = [int(name) for name in os.listdir(tasks)]  # noqa: PTH208 - names only, and fast
    except OSError:
        return None
    turns = {number: turn for number in numbers if (turn := _turn(tasks / str(number))) is not None}
    if not turns.get(mine, (0, 0))[0]:  # a system that does not count writes zeros
        return None
    others = {t.native_id: _name(t) for t in threading.enumerate() if t.native_id not in (None, mine)}
    backward = (n for n in turns if (text_of(tasks / str(n) / "comm") or "").startswith(_BACKWARD))
    return Threads(turns, mine, {n: name for n, name in others.items() if n is not None}, frozenset(backward))


def core_turns(before: Threads | None, after: Threads | None, wall_s: float, own_s: float | None) -> CoreTurns | None:
    """What the threads had between two moments; None if it is not known.

    Args:
        before: the first moment; its thread is the one that trains.
        after: the second one.
        wall_s: seconds between them.
        own_s: seconds on a core of the whole process between them: a thread that has ended left no count of its own.
    """
    if before is None or after is None or before.training not in after.turns:
        return None
    issuing = after.backward | {before.training}
    python = {**before.python, **after.python}
    pool = after.turns.keys() - issuing - python.keys()
    had = {n: _since(before.turns.get(n, (0, 0)), turn) for n, turn in after.turns.items()}

    ours = sum(had[n][0] for n, name in python.items() if n in had and name.startswith(_OURS))
    known = sum(had[n][0] for n in issuing | pool if n in had) + ours
    python_ran = None if own_s is None else max(own_s - known / NS_PER_S, 0.0)

    def share(nanoseconds: int) -> float:
        return round(nanoseconds / NS_PER_S / wall_s, 4)

    return CoreTurns(
        training_ran=share(sum(had[n][0] for n in issuing)),
        training_waited=share(sum(had[n][1] for n in issuing)),
        pool_threads=sum(1 for n in pool if had[n][0]),
        pool_ran=share(sum(had[n][0] for n in pool)),
        pool_waited=share(sum(had[n][1] for n in pool)),
        pool_most_waited=share(max((had[n][1] for n in pool), default=0)),
        python_ran=None if python_ran is None else round(python_ran / wall_s, 4),
        python_busiest=_busiest(python, had),
    )


def _busiest(python: Mapping[int, str], had: Mapping[int, tuple[int, int]]) -> str | None:
    """The one of these threads that ran longest; one that has ended if there is a single one. The recorder's are left out."""
    theirs = {n: name for n, name in python.items() if not name.startswith(_OURS)}
    ended = [name for n, name in theirs.items() if n not in had]
    alive = max((n for n in theirs if n in had and had[n][0]), key=lambda n: had[n][0], default=None)
    if len(ended) == 1 or alive is None:
        return ended[0] if len(ended) == 1 else None
    return None if ended else theirs[alive]


def _name(thread: threading.Thread) -> str:
    """The class of a thread if a library has one of its own, else its name."""
    kind = type(thread).__name__
    return thread.name if kind in _PLAIN else kind


def _turn(task: Path) -> tuple[int, int] | None:
    fields = (text_of(task / "schedstat") or "").split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 3 and all(f.isdigit() for f in fields) else None


def _since(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """What came between two counts; a number that the system gave to a new thread meanwhile counts from its beginning."""
    began = before if after[0] >= before[0] and after[1] >= before[1] else (0, 0)
    return after[0] - began[0], after[1] - began[1]
