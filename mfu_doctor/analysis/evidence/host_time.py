"""What keeps the host busy in a step: operators and launches, short gaps between them, and long gaps.

A short gap between two operators is the cost of dispatching from Python. In a long gap the program does something else.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Steady, part_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.intervals import Intervals, complement, union
from mfu_doctor.quantities import share, time_of
from mfu_doctor.result.bottleneck import host_parts
from mfu_doctor.units import NS_PER_US

# Dispatching one module from Python takes 5 to 50 us (profiled up to 100); a longer pause is other work of the program.
LONG_PAUSE_NS = 200 * NS_PER_US
# Host cost of a node in a CUDA graph launch: NVIDIA, "Constant-time launch for straight-line CUDA graphs" (2024) gives 2.5 us
# + 1 ns per node for new drivers; older ones take up to 1 us per node.
GRAPH_NODE_NS = 1 * NS_PER_US
# Share of the host time of issuing that stays with compiled code, by end: an estimate, not a measurement.
COMPILED_HOST_LEFT = (0.7, 0.5, 0.3)
GRAPH_CAUTIOUS = 0.3  # cautious end: copies into static inputs, and Python around the graph
_LITTLE = 0.01  # of the step: less is no part of what is waited for
GRAPH_LEAST = 0.05  # share of the host time that stays: inputs must be copied and Python must call the graph


class HostTime(Struct, frozen=True):
    """Host time of the recorded steps, disjoint sets in nanoseconds, without waits and operators that compute.

    Attributes:
        issuing: operators and runtime calls (on a CPU empty: operators are the device).
        dispatch: short pauses between them.
        pauses: long ones.
        operations: device operations per step (on a CPU: operators' stretches).
        typical_pause_ns: median of the short pauses.
    """

    issuing: Intervals
    dispatch: Intervals
    pauses: Intervals
    operations: float
    typical_pause_ns: float


def host_time_of(run: Run, steady: Steady) -> HostTime:
    """Split the host time of the recorded steps."""
    lo, hi = int(run.steps.host_start.min()), int(run.steps.host_end.max())
    host = run.host
    excused = host.fetch | host.blocking | host.compile | host.allocator | host.gc | host.computing
    working = host.busy.clip(lo, hi)
    between = complement(working | excused, lo, hi)
    long = between.lengths > LONG_PAUSE_NS
    short = between.lengths[~long]
    done = int((steady.entries(run) & (run.activity.kind == COMPUTE)).sum())
    return HostTime(
        issuing=working - excused,
        dispatch=Intervals(between.start[~long], between.end[~long]),
        pauses=Intervals(between.start[long], between.end[long]),
        operations=steady.per_step(done),
        typical_pause_ns=float(np.median(short)) if len(short) else 0.0,
    )


def fusable_share(run: Run, steady: Steady) -> float:
    """Share of the device operations that a fusing compiler would make part of the one before: streaming after streaming."""
    mask = steady.entries(run) & (run.activity.kind == COMPUTE)
    entry = np.flatnonzero(mask)
    streaming = run.kernels.is_kind("elementwise", "reduction", "normalization", "softmax", "layout")[entry]
    if len(entry) < 2:
        return 0.0
    follows = streaming[1:] & streaming[:-1] & (run.activity.track[entry][1:] == run.activity.track[entry][:-1])
    return float(follows.mean())


def longest_pause(pauses: Intervals, steady: Steady) -> tuple[int, int] | None:
    """Start and end of the longest pause in the steady steps, or None."""
    inside = pauses & steady.host
    if not inside.count:
        return None
    at = int(np.argmax(inside.lengths))
    return int(inside.start[at]), int(inside.end[at])


class LongGaps(Struct, frozen=True):
    """Time between operators on a CPU-only run, in nanoseconds per step where nothing else is said.

    Attributes:
        pauses: the long gaps.
        typical_ns: a typical gap.
        excess_ns: what long gaps take above a typical one.
        awake: share of the long gaps that the thread's own work takes; 1 if its CPU time was not recorded.
    """

    pauses: Intervals
    typical_ns: int
    excess_ns: float
    awake: float


def long_gaps(run: Run, steady: Steady, host: HostTime, python: Intervals, least_ns: float) -> LongGaps:
    """Gaps between operators that are longer than `least_ns` and belong to `python`, on a CPU-only run."""
    pauses = host.pauses & python
    keep = pauses.lengths > least_ns
    pauses = Intervals(pauses.start[keep], pauses.end[keep])
    typical = int(host.typical_pause_ns)
    awake = run.awake_share(pauses & steady.host)
    return LongGaps(pauses, typical, _excess(run, pauses & steady.host, typical), 1.0 if awake is None else awake)


def at_one_line(run: Run, longest: Intervals, every: Intervals) -> bool:
    """Whether the user's code that fills these gaps fills those too: then its fix takes all of them."""
    spot = run.python_at(longest)
    return spot is not None and run.python_at(every) == spot


def _excess(run: Run, pauses: Intervals, typical_ns: int) -> float:
    """Time that long gaps take above a typical one, in nanoseconds per step: the median over the steady steps."""
    steps = run.steps
    step = np.searchsorted(steps.host_start, pauses.start, side="right") - 1
    excess = np.bincount(step, np.maximum(pauses.lengths - typical_ns, 0), minlength=steps.count)
    return float(np.median(excess[steps.steady]))


def late(run: Run) -> Intervals:
    """When the device was idle because the host had not issued the next operation yet: only host time in here is worth less."""
    return joined(run.breakdown.owners["launch"], run.breakdown.owners["python"])


def joined(*sets: Intervals) -> Intervals:
    """Union of interval sets."""
    return union(np.concatenate([s.start for s in sets]), np.concatenate([s.end for s in sets]))


def parts_of_wait(run: Run, steady: Steady) -> str:
    """What of that wait is for launches and what for Python, in the words of the verdict."""
    return host_parts(part_of(run, "launch").mean_ns, part_of(run, "python").mean_ns, steady.step_ns)


def and_for_data(run: Run, steady: Steady) -> str:
    """The wait for data, which a quicker CPU makes shorter too: without it a saving seems larger than what is waited for."""
    data = part_of(run, "data_loading").mean_ns
    return f" and {share(data, steady.step_ns)} for data" if data >= _LITTLE * steady.step_ns else ""


def pace(run: Run, steady: Steady, host: HostTime, total: float) -> str:
    """The median kernel and what the CPU needs for one, of so much of its time in a step."""
    entries = steady.entries(run)
    kernel = float(np.median((run.activity.end - run.activity.start)[entries])) if entries.any() else 0.0
    return f"median kernel {time_of(kernel)}; the CPU needs {time_of(total / max(host.operations, 1))} per kernel"
