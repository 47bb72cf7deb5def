"""How fast collectives move data over the link between devices, in the terms of nccl-tests.

Algorithm bandwidth is a size over a time. Bus bandwidth is what each link must then have carried; its
factors are those of https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md.
"""

from __future__ import annotations

import re

from mfu_doctor.devices.table import DeviceRow, lookup

# Cards in PCIe slots have NVLink only if a bridge connects two of them, which a trace does not show.
_CARD = re.compile(r"PCIe|NVL$", re.IGNORECASE)
# Eight devices are one machine; larger groups use a network whose speed a trace does not show.
ONE_MACHINE = 8
_ONE_WAY = ("broadcast", "reduce", "send", "recv")  # all that is given goes over one link


def bus_bytes(kind: str, size: float, ranks: int) -> float:
    """What one link carries in a collective to which each of so many ranks gives `size` bytes."""
    if kind == "allreduce":
        return size * 2 * (ranks - 1) / ranks
    if kind == "allgather":  # nccl-tests counts what each rank has in the end, which is `ranks` times as much
        return size * (ranks - 1)
    if kind in _ONE_WAY:
        return size
    return size * (ranks - 1) / ranks


def algorithm_bytes(kind: str, size: float, ranks: int) -> float:
    """The size that nccl-tests divides by the time."""
    return size * ranks if kind == "allgather" else size


def linked_row(name: str | None) -> DeviceRow | None:
    """The row of a device whose link to its neighbours is known by its name; None for cards that need a bridge."""
    row = lookup(name) if name and not _CARD.search(name) else None
    return row if row is not None and row.link is not None else None


def link_rate(name: str | None) -> float | None:
    """What its links carry in one direction, in bytes/s; None if it is not known. The table has both directions together."""
    row = linked_row(name)
    return row.link / 2 if row is not None and row.link is not None else None
