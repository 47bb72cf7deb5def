"""Large collectives inside one machine run at a small part of the speed of the link between its devices.

What it measures
    Bytes over duration of collectives of at least 4 MiB in groups of at most eight ranks, by the bus bandwidth convention
    of NCCL, against NVLink or Infinity Fabric in the device table (half of the published figure: one direction).

Why it costs
    Traffic that goes through host memory or a slower link than NVLink takes several times as long.

How the gain is predicted
    Each large collective takes its bytes over 80 (mid) or 90 % (high) of the link, or comes half the way to 40 % of it (low).
    What a collective takes beyond the slowest link inside a machine is waiting for a late rank; the low end leaves it.
    Hidden ones save nothing.

How to fix
    NCCL_DEBUG=INFO tells which transport is in use; nvidia-smi topo -m how the devices are connected.

When it is wrong
    Boards whose NVLink is not wired up, devices spread over machines, and collectives that waited for a late rank. Cards that
    need an NVLink bridge (PCIe, NVL) are not judged.

References
    https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.devices.table import DeviceRow, lookup
from mfu_doctor.quantities import bandwidth, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import GIGA, NS_PER_S

# Cards in PCIe slots have NVLink only where somebody has put a bridge between two of them, which a trace does not tell.
_CARD = re.compile(r"PCIe|NVL$", re.IGNORECASE)
# Eight devices are one machine; larger groups cross a network whose speed a trace does not tell.
ONE_MACHINE = 8
LARGE_BYTES = 4 << 20
SLOW = 0.2  # of the link: nsys-ai calls this slow; ring all-reduces reach 0.7 to 0.8 (NCCL tests)
# Through host memory over PCIe 3.0 x16 (16 lanes of 0.985 GB/s, 80 % reached), in and out at once: the slowest way there is.
SLOWEST = 0.8 * 16 * 0.985 * GIGA / 2
_REACHED = (0.4, 0.8, 0.9)
_FOUND = (
    0.5,
    1.0,
    1.0,
)  # of that gain: one rank cannot tell a slow link from a late neighbour, so the low end takes half
# What the link is called, and what shows how devices are connected, by vendor.
_NAMES = {"NVIDIA": ("NVLink", "nvidia-smi topo -m"), "AMD": ("Infinity Fabric", "rocm-smi --showtopo")}


@rule(
    "slow-link", "CO006", "collectives reach little of the link", needs=(Need.DEVICE,), also=("bus-bandwidth", "nvlink")
)
def slow_link(run: Run) -> Outcome:
    """Judge the bus bandwidth of large collectives inside one machine."""
    every = collectives_of(run)
    if every is None:
        return None
    row = _row(run)
    if row is None or row.link is None:
        return Skip(
            "the link between these devices is unknown (no NVLink in the device table, or cards that need a bridge)"
        )
    link = row.link / 2
    called, tool = _NAMES.get(row.vendor, ("the link", "the vendor's topology tool"))
    moved = _bus_bytes(run, every)
    steady = steady_of(run)
    inside = steady.entries(run)[every.entry] & (every.size >= LARGE_BYTES)
    if not (inside & (moved > 0)).any():
        return Skip("no large collective with a known size and a group inside one machine was recorded")
    chosen = inside & (moved > 0)
    rate = float(np.median(moved[chosen] / np.maximum(every.duration_ns[chosen], 1))) * NS_PER_S
    if rate >= SLOW * link:
        return None
    large = (every.size >= LARGE_BYTES) & (moved > 0)
    rows, ideal = run.activity.row[every.entry[large]], moved[large] / link * NS_PER_S
    now = every.duration_ns[large].astype(np.float64)
    by_link = np.minimum(now, moved[large] / SLOWEST * NS_PER_S)  # what is longer than this, no link explains
    ends = [
        (SetDevice(rows, (now - part * np.maximum(told - ideal / reached, 0.0)).astype(np.int64)),)
        for reached, part, told in zip(_REACHED, _FOUND, (by_link, now, now), strict=True)
    ]
    waiting = "that is slower than any link inside a machine, so part of it is waiting for a late rank"
    unsure = waiting if rate < SLOWEST else "collectives that wait for a late rank look slow too"
    return Finding(
        summary=f"Collectives run at {bandwidth(rate)}, {share(rate, link)} of {called}",
        fix="NCCL_DEBUG=INFO  # look for 'via P2P' (the link between devices); 'via SHM' or 'via NET' means that it is not used",
        detail=f"{tool} shows how the GPUs are connected; {unsure}",
        change=Change(*ends),
        evidence=(shown("bus bandwidth", rate, "bytes/s"), shown("link", link, "bytes/s")),
        effort="setting",
        confidence="hint",
    )


def _row(run: Run) -> DeviceRow | None:
    """The device table's row (it has both directions of the link together); None for cards that need a bridge."""
    name = run.trace.devices[0].name if run.trace.devices else run.peaks.name
    return lookup(name) if name and not _CARD.search(name) else None


def _bus_bytes(run: Run, every: Collectives) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bytes that each collective must move over a link (NCCL's bus bandwidth convention); 0 where that is unknown."""
    out = np.zeros(len(every.entry))
    for i, row in enumerate(run.activity.row[every.entry].tolist()):
        args = run.trace.args_of(row)
        ranks = args.group_size if args is not None and args.group_size else run.trace.distributed.world_size
        if ranks is None or not 1 < ranks <= ONE_MACHINE or every.size[i] < 0:
            continue
        factor = {"allreduce": 2 * (ranks - 1) / ranks, "allgather": ranks - 1.0}.get(
            every.kind[i], (ranks - 1) / ranks
        )
        out[i] = float(every.size[i]) * factor
    return out
