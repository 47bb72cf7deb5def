"""This process and its descendants, and what each used of the processor."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mfu_doctor.capture.facts.system_files import text_of

_MAX_PROCESSES = 20_000  # more than this is a machine on which a walk over /proc takes too long


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """CPU ticks of processes and of the children that they have waited for.

    Attributes:
        ticks: by process: this one and its descendants.
        parent: of every process of the machine.
    """

    ticks: dict[int, int]
    parent: dict[int, int]

    def used_s(self, roots: Collection[int]) -> float:
        """CPU seconds of these processes and of all below them."""
        mine = [used for pid, used in self.ticks.items() if _descends(pid, roots, self.parent)]
        return sum(mine) / os.sysconf("SC_CLK_TCK")


def process_tree(proc: Path) -> ProcessTree | None:
    """The processes now; None if the system does not list them.

    Args:
        proc: where it would, in the form of Linux's /proc.
    """
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
    mine = {os.getpid()}
    return ProcessTree({pid: used for pid, used in ticks.items() if _descends(pid, mine, parent)}, parent)


def _descends(pid: int, ancestors: Collection[int], parent: dict[int, int]) -> bool:
    while pid not in ancestors and pid in parent:
        pid = parent[pid]
    return pid in ancestors
