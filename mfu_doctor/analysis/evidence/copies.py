"""Memory copies of a run with their size, and the bandwidth that they would reach with pinned memory."""

from __future__ import annotations

import math
import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.vocabulary import TO_DEVICE, TO_HOST, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.devices.table import lookup
from mfu_doctor.quantities import bandwidth
from mfu_doctor.units import GIGA, NS_PER_S

_PINNED = re.compile(r"Pinned")
_BOTH_WAYS = re.compile(f"{TO_DEVICE.pattern}|{TO_HOST.pattern}")
# CUDA stages copies from pageable memory up to this size without waiting for them.
STAGED_BYTES = 64 * 1024
# Copies below this are latency, not bandwidth.
_LARGE_BYTES = 1 << 20
# A lane of PCIe 3.0 carries 0.985 GB/s and each later generation twice that (PCI-SIG); copies reach about 80 % of it.
_LANE_GEN3 = 0.985 * GIGA
_REACHED = 0.8
# If neither the capture nor the device table contains it: PCIe 3.0 x16, the slowest one of training GPUs.
_DEFAULT_GENERATION, _DEFAULT_WIDTH = 3, 16


class Copies(Struct, frozen=True):
    """Some copies; arrays of shape (k,): index into the activity table, bytes, nanoseconds."""

    entry: Rows
    size: Rows
    duration_ns: Rows

    def only(self, keep: Mask) -> Copies:
        """Those copies where `keep` holds."""
        return Copies(self.entry[keep], self.size[keep], self.duration_ns[keep])

    @property
    def rate(self) -> float:
        """Bytes per second of all together."""
        return int(self.size.sum()) / max(int(self.duration_ns.sum()), 1) * NS_PER_S

    def issuer(self, run: Run) -> Rows:
        """Host row that issued each: its operator, else its launch call, else the copy itself."""
        op, call = run.launches.op[self.entry], run.launches.call[self.entry]
        return np.where(op >= 0, op, np.where(call >= 0, call, run.activity.row[self.entry]))


def copies_matching(run: Run, pattern: re.Pattern[str], least_bytes: int = 1) -> Copies:
    """Copies whose name matches and whose size is known and at least so large."""
    activity, events = run.activity, run.trace.events
    named = np.isin(events.name[activity.row], ids_matching(run.trace, pattern))
    entry = np.flatnonzero(named & (activity.kind == COPY))
    size = np.array([copied_bytes(run, row) for row in activity.row[entry].tolist()], np.int64)
    keep = size >= least_bytes
    entry = entry[keep]
    return Copies(entry, size[keep], (activity.end - activity.start)[entry])


def pageable(run: Run, pattern: re.Pattern[str]) -> Copies:
    """Copies with such a name that are more than latency, those of the optimizer left out."""
    return without_optimizer(run, copies_matching(run, pattern, STAGED_BYTES))


def without_optimizer(run: Run, copies: Copies) -> Copies:
    """Those copies that no optimizer makes: what it moves is state (`offloaded-state`), not a batch."""
    return copies.only(~run.optimizer_steps.own.contains(run.trace.events.start[copies.issuer(run)]))


def copied_bytes(run: Run, row: int) -> int:
    """Bytes of one copy; 0 if the trace does not say."""
    args = run.trace.args_of(row)
    return args.copy_bytes or 0 if args else 0


class PinnedRate(Struct, frozen=True):
    """What copies in one direction reach from or to pinned memory, in bytes per second.

    Attributes:
        likely: what pinned copies of this run reach; else what the link reaches; else, if only the card is known, the geometric
            middle between what copies reach now and what the card's link can reach: the host may have a slower one.
        best: at most.
        source: where `likely` is from: "copies" of this run, its "link", or an "estimate".
    """

    likely: float
    best: float
    source: str


def pinned_rate(run: Run, now: Copies, direction: re.Pattern[str]) -> PinnedRate:
    """What pinned memory would give these copies.

    Args:
        run: the run.
        now: copies in this direction that use pageable memory, not empty.
        direction: names of copies in this direction: `TO_DEVICE` or `TO_HOST`.
    """
    reached = _rate(now)
    seen = _pinned(run, direction) or _pinned(run, _BOTH_WAYS)
    samples = run.facts.samples if run.facts else ()
    generation = next((g for s in samples if (g := s.pcie_gen or s.pcie_gen_max)), None)
    if generation is not None:
        width = next((s.pcie_width for s in samples if s.pcie_width), _DEFAULT_WIDTH)
        link = max(_reachable(generation, width), reached)
        return PinnedRate(seen or link, max(link, seen or 0.0), "copies" if seen else "link")
    card = max(_reachable(_generation_of(run), _DEFAULT_WIDTH), reached)
    return PinnedRate(seen or math.sqrt(reached * card), max(card, seen or 0.0), "copies" if seen else "estimate")


def at_rate(copies: Copies, rate: float) -> Rows:
    """Nanoseconds that each of these copies takes at this rate in bytes per second, never more than it took."""
    return np.minimum(copies.size / rate * NS_PER_S, copies.duration_ns).astype(np.int64)


def through_pinned(pinned: PinnedRate) -> str:
    """What pinned memory would reach, as the predicate of a sentence."""
    likely = bandwidth(pinned.likely, 2)
    if pinned.source == "copies":
        return f"reaches {likely} in this run"
    if pinned.source == "link":
        return f"reaches about {likely}"
    return f"reaches at most {bandwidth(pinned.best, 2)} with this card ({likely} is assumed)"


def _rate(copies: Copies) -> float:
    """Bytes per second of these copies together."""
    return float(copies.size.sum()) / max(int(copies.duration_ns.sum()), 1) * NS_PER_S


def _pinned(run: Run, direction: re.Pattern[str]) -> float | None:
    """Bytes per second of the median large pinned copy in this direction; None if there is none."""
    seen = copies_matching(run, direction, _LARGE_BYTES)
    names = run.trace.events.name[run.activity.row[seen.entry]]
    seen = seen.only(np.isin(names, ids_matching(run.trace, _PINNED)))
    return float(np.median(seen.size / np.maximum(seen.duration_ns, 1)) * NS_PER_S) if len(seen.entry) else None


def _reachable(generation: int, width: int) -> float:
    return _REACHED * _LANE_GEN3 * float(2 ** (generation - 3)) * width


def _generation_of(run: Run) -> int:
    """PCIe generation of the card of this run, by the device table."""
    row = lookup(run.peaks.name) if run.peaks.name else None
    return (row.pcie_generation if row is not None else None) or _DEFAULT_GENERATION
