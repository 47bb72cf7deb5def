"""Large collectives inside one machine use only a small part of the bandwidth between its GPUs.

What it measures
    The bus bandwidth (as nccl-tests defines it) of collectives of at least 4 MiB with at most eight ranks. It is compared with
    the NVLink or Infinity Fabric bandwidth in the device table (half of the published value, which is for both directions).

Why it costs
    Data that goes through CPU memory or PCIe takes several times as long as over NVLink.

How the gain is predicted
    Each large collective takes bytes / (link bandwidth x efficiency).
    Low: half of the gain at 40 % efficiency. Time that even the slowest connection inside a machine cannot explain is waiting for
    a late rank, and remains.
    Mid: 80 % efficiency; that time remains too.
    High: 90 % efficiency.
    Collectives that overlap with compute save nothing.

How to fix
    If the rate is below that of any link, look at all ranks first: one of them may be late. Else find out why the link is not
    used: NCCL_DEBUG=INFO names the transport of each channel (P2P, SHM or NET), nvidia-smi topo -m shows how the GPUs are
    connected. Reasons are NCCL_P2P_DISABLE or NCCL_P2P_LEVEL in the environment, a container without
    --ipc=host, and an IOMMU or ACS that is on in the BIOS.

When it is wrong
    The rule is wrong if NVLink is not connected on this board, if the GPUs are in different machines, or if the collectives
    waited for a late rank. Cards that need an NVLink bridge (PCIe, NVL) are excluded.

References
    https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import SLOW_LINK, bytes_over_link, collectives_of, device_with_link
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.devices.links import linked_row
from mfu_doctor.quantities import bandwidth, share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import GIGA, NS_PER_S

LARGE_BYTES = 4 << 20
# Through host memory over PCIe 3.0 x16 (16 lanes of 0.985 GB/s, 80 % reached), in and out at once: the slowest connection.
SLOWEST = 0.8 * 16 * 0.985 * GIGA / 2
_REACHED = (0.4, 0.8, 0.9)
_FOUND = (
    0.5,
    1.0,
    1.0,
)  # of that gain: one rank cannot distinguish a slow link from a late rank, so the low estimate takes half
# What keeps NCCL (RCCL) from the link is not in a trace, but in its log.
_LOOK = "NCCL_DEBUG=INFO  # 'via P2P' is the link; if 'via SHM' or 'via NET': unset NCCL_P2P_DISABLE NCCL_P2P_LEVEL"
# From one rank it is not known whether the link is slow or another rank late: what has both is asked first.
_ASK = "mfu-doctor report DIR  # the traces of all ranks: is one of them late, or is the link slow?"
# What the link is called, and what shows how devices are connected, by vendor.
_NAMES = {"NVIDIA": ("NVLink", "nvidia-smi topo -m"), "AMD": ("Infinity Fabric", "rocm-smi --showtopo")}


@rule(
    "slow-link",
    "CO006",
    "collectives use little of the bandwidth between GPUs",
    needs=(Need.DEVICE,),
    also=("bus-bandwidth", "nvlink"),
)
def slow_link(run: Run) -> Outcome:
    """Judge the bus bandwidth of large collectives inside one machine."""
    every = collectives_of(run)
    if every is None:
        return None
    row = linked_row(device_with_link(run))
    if row is None or row.link is None:
        return Skip(
            "the link between these GPUs is unknown (no NVLink in the device table, or cards that need a bridge)"
        )
    link = row.link / 2
    called, tool = _NAMES.get(row.vendor, ("link", "the vendor's topology tool"))
    moved = bytes_over_link(run, every.kind, every.size, every.ranks)
    steady = steady_of(run)
    inside = steady.entries(run)[every.entry] & (every.size >= LARGE_BYTES)
    if not (inside & (moved > 0)).any():
        return Skip("no collective of at least 4 MiB with a known size and at most eight ranks was recorded")
    chosen = inside & (moved > 0)
    rate = float(np.median(moved[chosen] / np.maximum(every.duration_ns[chosen], 1))) * NS_PER_S
    if rate >= SLOW_LINK * link:
        return None
    large = (every.size >= LARGE_BYTES) & (moved > 0)
    rows, ideal = run.activity.row[every.entry[large]], moved[large] / link * NS_PER_S
    now = every.duration_ns[large].astype(np.float64)
    by_link = np.minimum(now, moved[large] / SLOWEST * NS_PER_S)  # time above this is not explained by any link
    ends = [
        (SetDevice(rows, (now - part * np.maximum(told - ideal / reached, 0.0)).astype(np.int64)),)
        for reached, part, told in zip(_REACHED, _FOUND, (by_link, by_link, now), strict=True)
    ]
    waiting = "the rate is below that of any link inside a machine, so part of the time is waiting for a late rank; if none is "
    waiting += "late, NCCL_DEBUG=INFO names what is used"
    unsure = waiting if rate < SLOWEST else "collectives that wait for a late rank look slow too"
    return Finding(
        summary=f"Collectives run at {bandwidth(rate)}, {share(rate, link)} of the {called} bandwidth: "
        f"{'a late rank or a slow link' if rate < SLOWEST else 'a slow link, if no rank is late'}",
        fix=_ASK if rate < SLOWEST else _LOOK,
        detail=f"the saving is that of a link in use, and what is used was not recorded; {tool} shows how the GPUs are "
        f"connected; {unsure}",
        decides=Ends(
            low="they reach 40 % and half of it is waiting",
            high="messages reach 90 % of the link's rate and no rank is late",
        ),
        change=Change(*ends),
        evidence=(shown("bus bandwidth", rate, "bytes/s"), shown("link", link, "bytes/s")),
        effort="setting",
        confidence="hint",
    )
