"""Memory copies of a run with their size, and the PCIe bandwidth that pinned memory reaches."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.units import GIGA, NS_PER_S

_PINNED_UPLOAD = re.compile(r"HtoD.*Pinned")
# Copies below this are latency, not bandwidth.
_LARGE_BYTES = 1 << 20
# A lane of PCIe 3.0 carries 0.985 GB/s and each later generation twice that (PCI-SIG); copies reach about 80 % of it.
_LANE_GEN3 = 0.985 * GIGA
_REACHED = 0.8
# If neither the trace nor the capture contains it: PCIe 3.0 x16, the slowest one of training GPUs.
_DEFAULT_GENERATION, _DEFAULT_WIDTH = 3, 16


@dataclass(frozen=True, slots=True)
class Copies:
    """Some copies; arrays of shape (k,): index into the activity table, bytes, nanoseconds."""

    entry: Rows
    size: Rows
    duration_ns: Rows

    def only(self, keep: Mask) -> Copies:
        """Those copies where `keep` holds."""
        return Copies(self.entry[keep], self.size[keep], self.duration_ns[keep])

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


def without_optimizer(run: Run, copies: Copies) -> Copies:
    """Those copies that no optimizer makes: what it moves is state (`offloaded-state`), not a batch."""
    return copies.only(under(run, copies.issuer(run), OPTIMIZER_MARK) < 0)


def copied_bytes(run: Run, row: int) -> int:
    """Bytes of one copy; 0 if the trace does not say."""
    args = run.trace.args_of(row)
    return args.copy_bytes or 0 if args else 0


def is_link_known(run: Run) -> bool:
    """Whether `pinned_bandwidth` is this run's own or its link's; else it is the least that a training GPU comes with."""
    seen = len(copies_matching(run, _PINNED_UPLOAD, _LARGE_BYTES).entry) > 0
    return seen or any(s.pcie_gen_max for s in (run.facts.samples if run.facts else ()))


def pinned_bandwidth(run: Run) -> float:
    """Bytes per second of a large copy from pinned memory: seen in this run, else from the link, else PCIe 3.0 x16."""
    seen = copies_matching(run, _PINNED_UPLOAD, _LARGE_BYTES)
    if len(seen.entry):
        return float(np.median(seen.size / np.maximum(seen.duration_ns, 1)) * NS_PER_S)
    samples = run.facts.samples if run.facts else ()
    generation = next((s.pcie_gen_max for s in samples if s.pcie_gen_max), _DEFAULT_GENERATION)
    width = next((s.pcie_width for s in samples if s.pcie_width), _DEFAULT_WIDTH)
    return _REACHED * _LANE_GEN3 * float(2 ** (generation - 3)) * width
