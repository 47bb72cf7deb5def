"""The vocabulary of where the time of a step goes: one name for each owner of time, in every output, and what it means.

An owner is a bucket of the breakdown or a cause of idle time. The device waits for the CPU for one of two reasons, launching and
Python; together they are one owner: a run that waits for the CPU is host-bound, whichever of the two has more.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.quantities import share
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES, Breakdown

# Below this share of the step nobody limits it alone.
BOUND_SHARE = 0.5
_MUCH = 0.05  # a part of a wait that has less of the step is not worth the words
_MOSTLY = 0.1  # of a wait: with more than this beside it, one of its parts is most of it, and not all

COMPUTE_BOUND, HOST_BOUND = "compute-bound", "host-bound"
HOST = "host"
HOST_PARTS = ("launch", "python")  # causes of idle time in which the device waits for the CPU
_IDLE = "idle"


class Words(Struct, frozen=True):
    """What an owner of time is called.

    Attributes:
        name: in tables: "launching".
        takes: in sentences, what takes the time: "waiting for the CPU to launch".
        means: for a newcomer; empty where the name says it.
        bound: what a run is called that it has more than half of; None: it has no name.
    """

    name: str
    takes: str
    means: str = ""
    bound: str | None = None


VOCABULARY = {
    "compute": Words("compute", "computing", "", COMPUTE_BOUND),
    "communication": Words("communication", "communication", "", "communication-bound"),
    "memory_copy": Words("memory copy", "copying", "", "copy-bound"),
    "data_loading": Words("data loading", "waiting for data", "the next batch is not ready", "input-bound"),
    "idle": Words("idle", "idle"),
    HOST: Words(
        "host",
        "waiting for the CPU",
        "the device waits while the CPU launches kernels or runs Python between them",
        HOST_BOUND,
    ),
    "launch": Words("launching", "waiting for the CPU to launch", "the CPU launches kernels too slowly"),
    "python": Words("Python", "Python between operators", "the CPU runs Python between operators"),
    "host_compute": Words("host compute", "waiting for operators on the CPU", "operators compute on the CPU"),
    "sync": Words(
        "sync",
        "waiting after synchronisations",
        "the CPU waited for the device and launches again",
        "sync-bound",
    ),
    "allocator": Words(
        "allocator",
        "waiting for memory to be allocated",
        "device memory is being allocated or freed",
        "allocator-bound",
    ),
    "compile": Words(
        "compile", "waiting for compilation", "code is being compiled (torch.compile, Triton)", "compile-bound"
    ),
    "gc": Words("gc", "waiting for the garbage collector", "the Python garbage collector is running"),
    "rank_wait": Words("rank wait", "waiting for other ranks", "another rank has not yet entered the collective"),
    "queue": Words("queue", "held with work in the queue", "kernels are launched, but something holds them"),
    "other": Words("other", "idle for a reason that is not known", "the cause is not known"),
}
BOUND_BY = {owner: words.bound for owner, words in VOCABULARY.items() if words.bound is not None}
BUCKET_OF = {bound: owner if owner in BUCKETS else _IDLE for owner, bound in BOUND_BY.items()}


class Owned(Struct, frozen=True):
    """What one owner has of the step; `parts` are causes of idle time that it puts together, largest first."""

    owner: str
    seconds: float
    parts: tuple[Owned, ...] = ()


def named(owner: str) -> str:
    """The name of an owner in tables, of a part of one too ("idle: launch"); other names are spelled as they are."""
    parts = owner.split(": ")
    return ": ".join(VOCABULARY[part].name if part in VOCABULARY else part.replace("_", " ") for part in parts)


def meaning(owner: str) -> str:
    """A cause of idle time and what it means: "launching (host-bound): the CPU launches kernels too slowly"."""
    words = VOCABULARY.get(owner)
    if words is None or not words.means:
        return named(owner)
    return f"{words.name}{f' ({HOST_BOUND})' if owner in HOST_PARTS else ''}: {words.means}"


def host_parts(launch: float, python: float, step: float) -> str:
    """Why the device waits for the CPU, as the end of a phrase: " (66 % launching, 11 % Python)", or only what has most of it."""
    parts = sorted(((launch, "launch"), (python, "python")), reverse=True)
    if parts[1][0] < _MUCH * step:
        mostly = "mostly " if parts[1][0] > _MOSTLY * (launch + python) else ""
        return f" ({mostly}{named(parts[0][1])})"
    return f" ({', '.join(f'{share(time, step)} {named(part)}' for time, part in parts)})"


def owners_of(split: Breakdown) -> tuple[Owned, ...]:
    """Every owner that has time of the step, longest first: the buckets, with idle time divided by its causes."""
    causes = {name: split.idle_causes.get(name, 0.0) for name in IDLE_CAUSES}
    causes["other"] += max(split.idle - sum(causes.values()), 0.0)
    parts = _ranked({name: causes.pop(name) for name in HOST_PARTS})
    host = Owned(HOST, sum(part.seconds for part in parts), parts)
    buckets = {name: float(getattr(split, name)) for name in BUCKETS if name != _IDLE}
    every = (*_ranked(buckets | causes), *((host,) if parts else ()))
    return tuple(sorted(every, key=lambda own: -own.seconds))


def _ranked(seconds: dict[str, float]) -> tuple[Owned, ...]:
    return tuple(Owned(name, value) for name, value in sorted(seconds.items(), key=lambda item: -item[1]) if value > 0)


def bound_by(split: Breakdown) -> str | None:
    """The name of a run for what holds more than `BOUND_SHARE` of its step; None if nothing does, or it has no name."""
    first = next(iter(owners_of(split)), None)
    if first is None or first.seconds <= BOUND_SHARE * split.step_s:
        return None
    return BOUND_BY.get(first.owner)
