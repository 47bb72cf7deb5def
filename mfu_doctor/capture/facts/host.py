"""Facts about the machine as this process may use it, and how busy it and its storage were while the timed steps ran."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mfu_doctor.capture.facts.cores import core_facts
from mfu_doctor.capture.facts.processor import cpu_model
from mfu_doctor.capture.facts.system_files import text_of
from mfu_doctor.facts import HostFacts

_PROC = Path("/proc")
_MAX_PROCESSES = 20_000  # more than this is a machine on which a walk over /proc takes too long


@dataclass(frozen=True, slots=True)
class Busy:
    """CPU seconds used and bytes read up to one moment; None if /proc does not say."""

    wall_s: float
    own_s: float  # this process
    tree_s: float | None  # this process and its descendants (loader workers)
    machine_s: float | None  # all processes of the machine
    read_bytes: int | None = None  # from storage, by this process and its descendants


def busy_now(proc: Path = _PROC) -> Busy:
    """Read the clocks (some milliseconds if many processes run: call it between steps).

    Args:
        proc: where the system lists its processes, in the form of Linux's /proc.
    """
    tree = _tree_ticks(proc)
    return Busy(
        time.monotonic(),
        time.process_time(),
        None if tree is None else sum(tree.values()) / os.sysconf("SC_CLK_TCK"),
        _machine_seconds(proc),
        None if tree is None else _read_bytes(proc, tree),
    )


def host_facts(before: Busy | None, after: Busy | None) -> HostFacts:
    """The machine, and the shares of CPU time between two moments.

    Args:
        before: when the timed steps began; None if they never did.
        after: when they ended.
    """
    import torch

    return replace(
        core_facts(),
        cpu=cpu_model(),
        torch_threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        cpu_share=_own_share(before, after),
        worker_cpu_share=_worker_share(before, after),
        other_cpu_share=_other_share(before, after),
        disk_read_bytes_s=_read_rate(before, after),
        memory_available_bytes=_memory_available(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _read_rate(before: Busy | None, after: Busy | None) -> float | None:
    """Bytes per second; None if they are not counted, or if a process ended, which takes its count with it."""
    if before is None or after is None or after.wall_s <= before.wall_s:
        return None
    if before.read_bytes is None or after.read_bytes is None or after.read_bytes < before.read_bytes:
        return None
    if after.read_bytes == 0:  # a process that never read anything is rarer than a system that does not count (gVisor)
        return None
    return round((after.read_bytes - before.read_bytes) / (after.wall_s - before.wall_s), 1)


def _own_share(before: Busy | None, after: Busy | None) -> float | None:
    if before is None or after is None or after.wall_s <= before.wall_s:
        return None
    return round((after.own_s - before.own_s) / (after.wall_s - before.wall_s), 4)


def _worker_share(before: Busy | None, after: Busy | None) -> float | None:
    if (
        before is None
        or after is None
        or after.wall_s <= before.wall_s
        or before.tree_s is None
        or after.tree_s is None
    ):
        return None
    descendants = (after.tree_s - before.tree_s) - (after.own_s - before.own_s)
    return round(max(descendants, 0.0) / (after.wall_s - before.wall_s), 4)


def _other_share(before: Busy | None, after: Busy | None) -> float | None:
    if before is None or after is None or after.wall_s <= before.wall_s:
        return None
    if before.machine_s is None or after.machine_s is None or before.tree_s is None or after.tree_s is None:
        return None
    others = (after.machine_s - before.machine_s) - (after.tree_s - before.tree_s)
    return round(max(others, 0.0) / (after.wall_s - before.wall_s), 4)


def _memory_available() -> int | None:
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


def _machine_seconds(proc: Path) -> float | None:
    """CPU seconds of everything but idle and I/O wait, from the first line of /proc/stat."""
    fields = (text_of(proc / "stat") or "").partition("\n")[0].split()[1:]
    if len(fields) < 5:
        return None
    user, nice, system, _idle, _iowait, *rest = (int(field) for field in fields[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _tree_ticks(proc: Path) -> dict[int, int] | None:
    """CPU ticks of this process and of each of its descendants, with the children that they have waited for, by process."""
    try:
        pids = [name for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - names only, and fast
    except OSError:
        return None
    if not pids or len(pids) > _MAX_PROCESSES:
        return None
    ticks: dict[int, int] = {}
    parent: dict[int, int] = {}
    for pid in pids:
        fields = (text_of(proc / pid / "stat") or "").rpartition(")")[2].split()
        if len(fields) > 14:
            parent[int(pid)] = int(fields[1])
            ticks[int(pid)] = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return {pid: used for pid, used in ticks.items() if _descends(pid, os.getpid(), parent)}


def _read_bytes(proc: Path, tree: Iterable[int]) -> int | None:
    """Bytes that these processes made storage deliver; None if this one's count cannot be read.

    Linux adds the count of a child that ended to that of the parent that waited for it, so a worker that ends in between takes
    nothing away.
    """
    counts = {pid: _counted_reads(text_of(proc / str(pid) / "io") or "") for pid in tree}
    if counts.get(os.getpid()) is None:
        return None
    return sum(count or 0 for count in counts.values())  # one that ended since /proc was listed has none


def _counted_reads(text: str) -> int | None:
    values = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("read_bytes:")]
    return int(values[0]) if values and values[0].isdigit() else None


def _descends(pid: int, ancestor: int, parent: dict[int, int]) -> bool:
    while pid != ancestor and pid in parent:
        pid = parent[pid]
    return pid == ancestor
