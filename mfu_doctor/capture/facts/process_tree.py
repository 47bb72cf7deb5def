"""This process and its descendants, and what each used of the processor."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from mfu_doctor.capture.facts.system_files import text_of

_MAX_PROCESSES = 20_000  # more than this is a machine on which a walk over /proc takes too long


class ProcessTree(Struct, frozen=True):
    """CPU ticks of processes and of the children that they have waited for.

    Attributes:
        ticks: by process: this one and its descendants.
        parent: of every process of the machine.
    """

    ticks: dict[int, int]
    parent: dict[int, int]

    def used_s(self, roots: Collection[int]) -> float:
        """CPU seconds of these processes and of all below them."""
        mine = _below(roots, self.parent)
        return sum(used for pid, used in self.ticks.items() if pid in mine) / os.sysconf("SC_CLK_TCK")


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
    mine = _below({os.getpid()}, parent)
    return ProcessTree({pid: used for pid, used in ticks.items() if pid in mine}, parent)


def _below(roots: Collection[int], parent: dict[int, int]) -> set[int]:
    """These processes and all below them.

    Each is looked at once: numbers are given again while they are read, so that a process can seem to be its own ancestor.
    """
    children: dict[int, list[int]] = {}
    for pid, above in parent.items():
        children.setdefault(above, []).append(pid)
    found = set(roots)
    left = list(found)
    while left:
        new = [pid for pid in children.get(left.pop(), ()) if pid not in found]
        found.update(new)
        left += new
    return found
