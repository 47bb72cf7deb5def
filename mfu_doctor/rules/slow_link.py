"""Large collectives inside one machine run at a small part of the speed of the link between its devices.

What it measures
    Bytes over duration of collectives of at least 4 MiB in groups of at most eight ranks, by the bus bandwidth convention
    of NCCL, against the datasheet of NVLink.

Why it costs
    Traffic that goes through host memory or a slower link than NVLink takes several times as long.

How the gain is predicted
    Each large collective takes its bytes over 40, 80 or 90 % of the link. Hidden ones save nothing.

How to fix
    NCCL_DEBUG=INFO tells which transport is in use; nvidia-smi topo -m how the devices are connected.

When it is wrong
    Machines without NVLink (PCIe cards), devices spread over machines, and collectives that waited for a late rank.

References
    https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.collectives import Collectives, collectives_of
from mfu_doctor.analysis.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.phrasing import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import GIGA, NS_PER_S

# NVLink bandwidth of one device in one direction, bytes/s (NVIDIA datasheets state the sum of both directions).
_LINKS = {"V100": 150e9, "A100": 300e9, "H100": 450e9, "H200": 450e9, "B200": 900e9}
# Eight devices are one machine; larger groups cross a network whose speed a trace does not tell.
ONE_MACHINE = 8
LARGE_BYTES = 4 << 20
SLOW = 0.2  # of the link: nsys-ai calls this slow; ring all-reduces reach 0.7 to 0.8 (NCCL tests)
_REACHED = (0.4, 0.8, 0.9)


@rule("slow-link", "CO006", "collectives reach little of the link", needs=("device",))
def slow_link(run: Run) -> Outcome:
    """Judge the bus bandwidth of large collectives inside one machine."""
    every = collectives_of(run)
    if every is None:
        return None
    link = next((rate for name, rate in _LINKS.items() if name in (run.peaks.name or "")), None)
    if link is None:
        return Skip("the link between these devices is unknown")
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
    ends = [(SetDevice(rows, np.minimum(ideal / reached, now).astype(np.int64)),) for reached in _REACHED]
    return Finding(
        summary=f"Collectives run at {rate / GIGA:.3g} GB/s, {share(rate, link)} of NVLink",
        fix="NCCL_DEBUG=INFO  # look for 'via P2P' (NVLink); 'via SHM' or 'via NET' means that it is not used",
        detail="nvidia-smi topo -m shows how the GPUs are connected",
        change=Change(*ends),
        evidence=(shown("bus bandwidth", rate, "bytes/s"), shown("link", link, "bytes/s")),
        effort="setting",
        symptom_of=("exposed-communication",),
        confidence="hint",
    )


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
