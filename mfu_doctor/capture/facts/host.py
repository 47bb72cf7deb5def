"""Facts about the machine as this process may use it, and how busy it and its storage were while the timed steps ran."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.capture.facts.cores import CGROUP, core_facts, throttled_seconds
from mfu_doctor.capture.facts.process_tree import process_tree
from mfu_doctor.capture.facts.processor import cpu_model
from mfu_doctor.capture.facts.system_files import text_of
from mfu_doctor.capture.facts.turns import Threads, core_turns, threads_now
from mfu_doctor.facts import HostFacts

_PROC = Path("/proc")
_NEARLY_ALL = 0.9


class Busy(Struct, frozen=True):
    """CPU seconds used and bytes read up to one moment; None if the system does not say."""

    wall_s: float
    own_s: float  # this process
    tree_s: float | None  # this process and its descendants (loader workers)
    machine_s: float | None  # all processes of the machine
    loaders_s: float | None = None  # of the descendants, workers of a DataLoader
    loaders: frozenset[int] = frozenset()  # numbers of these workers
    read_bytes: int | None = None  # from storage, by this process and its descendants
    loading_bytes: int | None = (
        None  # by calls that read, of the workers of a DataLoader, or of this process if there are none
    )
    stolen_s: float | None = None  # cores of this virtual machine that others had
    throttled_s: float | None = None  # stopped by the quota of the container
    threads: Threads | None = None

    @property
    def descendants_s(self) -> float | None:
        """CPU seconds of the processes that this one started."""
        return None if self.tree_s is None else self.tree_s - self.own_s

    @property
    def others_s(self) -> float | None:
        """CPU seconds of all other processes."""
        return None if self.tree_s is None or self.machine_s is None else self.machine_s - self.tree_s


class Stretch(Struct, frozen=True):
    """A part of the run in which no profiler was attached.

    Attributes:
        before: when it began.
        after: when it ended.
        stepping_s: how long training steps ran in it.
    """

    before: Busy
    after: Busy
    stepping_s: float

    @property
    def wall_s(self) -> float:
        """Its length."""
        return self.after.wall_s - self.before.wall_s

    @property
    def is_training(self) -> bool:
        """Whether next to nothing but steps ran in it."""
        return self.stepping_s >= _NEARLY_ALL * self.wall_s > 0


def busy_now(
    proc: Path = _PROC, cgroup: Path = CGROUP, loaders: frozenset[int] = frozenset(), training: int | None = None
) -> Busy:
    """Read the clocks (some milliseconds if many processes run: call it between steps).

    Args:
        proc: where the system lists its processes, in the form of Linux's /proc.
        cgroup: where it states the limits of this process's control group.
        loaders: numbers of the processes that load batches; some may have ended.
        training: the system's number of the thread that trains; None: the one that asks.
    """
    tree, machine = process_tree(proc), _machine_seconds(proc)
    alive = frozenset() if tree is None else loaders & tree.ticks.keys()
    return Busy(
        wall_s=time.monotonic(),
        own_s=time.process_time(),
        tree_s=None if tree is None else tree.used_s(tree.ticks.keys()),
        loaders_s=None if tree is None else tree.used_s(alive),
        loaders=alive,
        machine_s=machine[0],
        stolen_s=machine[1],
        read_bytes=None if tree is None else _read_bytes(proc, tree.ticks),
        loading_bytes=_read_bytes(proc, alive or {os.getpid()}, "rchar:"),
        throttled_s=throttled_seconds(cgroup),
        threads=threads_now(proc, training),
    )


def host_facts(before: Busy | None, after: Busy | None) -> HostFacts:
    """The machine, and what was used of it between two moments.

    Args:
        before: when the timed steps began; None if they never did.
        after: when they ended.
    """
    import torch

    facts = replace(
        core_facts(),
        cpu=cpu_model(),
        torch_threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        memory_available_bytes=memory_available(),
        system=f"{platform.system()} {platform.machine()}",
    )
    return with_shares(facts, before, after)


def with_shares(facts: HostFacts, before: Busy | None, after: Busy | None) -> HostFacts:
    """The facts with what was used between these two moments."""
    if before is None or after is None or after.wall_s <= before.wall_s:
        return facts
    wall_s = after.wall_s - before.wall_s

    def share(first: float | None, last: float | None) -> float | None:
        used = _between(first, last)
        return None if used is None else round(used / wall_s, 4)

    children = share(before.descendants_s, after.descendants_s)
    loader = share(before.loaders_s, after.loaders_s) if before.loaders == after.loaders else None
    if loader is None and children is not None and facts.loader_cpu_share is not None and facts.worker_cpu_share:
        loader = round(children * facts.loader_cpu_share / facts.worker_cpu_share, 4)  # as it was before
    reading = _read_rate(before.loading_bytes, after.loading_bytes, wall_s) if before.loaders == after.loaders else None
    return replace(
        facts,
        cpu_share=share(before.own_s, after.own_s),
        worker_cpu_share=children,
        loader_cpu_share=loader,
        other_cpu_share=share(before.others_s, after.others_s),
        stolen_cpu_share=share(before.stolen_s, after.stolen_s),
        throttled_share=share(before.throttled_s, after.throttled_s),
        disk_read_bytes_s=_read_rate(before.read_bytes, after.read_bytes, wall_s),
        loading_read_bytes_s=facts.loading_read_bytes_s if reading is None else reading,
        turns=core_turns(before.threads, after.threads, wall_s, _between(before.own_s, after.own_s)),
        shares_s=round(wall_s, 4),
    )


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else max(last - first, 0.0)


def _read_rate(first: int | None, last: int | None, wall_s: float) -> float | None:
    """Bytes per second; None if they are not counted, or if a process ended, which takes its count with it."""
    if first is None or last is None or last < first:
        return None
    if last == 0:  # a process that never read anything is rarer than a system that does not count (gVisor)
        return None
    return round((last - first) / wall_s, 1)


def memory_available() -> int | None:
    """Memory in bytes that processes can still have, as the kernel estimates it; less in a container with a limit."""
    lines = (text_of(_PROC / "meminfo") or "").splitlines()
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    if not kilobytes or not kilobytes[0].isdigit():
        return None
    limit, used = text_of(Path("/sys/fs/cgroup/memory.max")), text_of(Path("/sys/fs/cgroup/memory.current"))
    within = [int(kilobytes[0]) * 1024]
    if limit is not None and used is not None and limit.strip().isdigit() and used.strip().isdigit():
        within.append(max(int(limit) - int(used), 0))
    return min(within)


def _machine_seconds(proc: Path) -> tuple[float | None, float | None]:
    """CPU seconds of all processes, and those that other virtual machines had, from the first line of /proc/stat."""
    fields = (text_of(proc / "stat") or "").partition("\n")[0].split()[1:]
    if len(fields) < 5:
        return None, None
    user, nice, system, _idle, _iowait, *rest = (int(field) for field in fields[:8])
    per_s = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + sum(rest[:2])) / per_s, sum(rest[2:]) / per_s


def _read_bytes(proc: Path, tree: Iterable[int], counter: str = "read_bytes:") -> int | None:
    """Bytes that these processes made storage deliver, or another counter of theirs; None if no count can be read.

    Linux adds the count of a child that ended to that of the parent that waited for it, so a worker that ends in between takes
    nothing away.
    """
    counts = {pid: _counted(text_of(proc / str(pid) / "io") or "", counter) for pid in tree}
    if counts.get(os.getpid(), 0) is None or all(count is None for count in counts.values()):
        return None
    return sum(count or 0 for count in counts.values())  # one that ended since /proc was listed has none


def _counted(text: str, counter: str) -> int | None:
    values = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(counter)]
    return int(values[0]) if values and values[0].isdigit() else None
