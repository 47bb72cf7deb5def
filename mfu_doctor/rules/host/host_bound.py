"""The device waits for the host: Python and the framework cannot issue work as fast as the device does it.

What it measures
    Idle time of the device in which the host was launching operators (launch) or running Python between them (python), the
    device operations per step, and whether the pauses between operators are short (dispatch) or long (other work).
    On a CPU-only run operators are the device; what counts is Python between them.

Why it costs
    An eager operator costs the host 5 to 50 us. Kernels shorter than that leave the device idle, whatever its speed.

How the gain is predicted
    The host's time shrinks in the replayed timeline; where the device is the bottleneck nothing is saved. Low end: fewer
    launches, as many as a fusing compiler would remove in this run, and only in the time that the device waits for; mid:
    dispatch shrinks to a graph launch where this run shows that one fits (the same kernels in each step, no synchronisation
    inside), else to half, as compiled code leaves it; long pauses stay; high: no host time at all. Where long pauses
    dominate, the low end removes half of them and the mid all.
    On a CPU: the low end removes half of what pauses take above this run's typical one, the mid all of it.

How to fix
    model = torch.compile(model), with mode="reduce-overhead" where a graph fits. Larger batches. Where long pauses dominate:
    move logging, augmentation or metrics out of the step, or into a worker.

When it is wrong
    The profiler slows the host, not the device: a trace with stacks or shapes overstates this. CUDA graphs need static
    shapes and no synchronisation inside.

References
    https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of
from mfu_doctor.analysis.evidence.graphs import is_compiled, is_graphed, obstacle_to_graph
from mfu_doctor.analysis.evidence.host_time import (
    COMPILED_HOST_LEFT,
    GRAPH_LEAST,
    GRAPH_NODE_NS,
    HostTime,
    fusable_share,
    host_time_of,
    joined,
    late,
    longest_pause,
)
from mfu_doctor.analysis.evidence.python_loops import element_loops, time_of_loops
from mfu_doctor.analysis.evidence.steady_steps import Part, Steady, part_of, spans, steady_of
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import Spot
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.intervals import Intervals
from mfu_doctor.quantities import number, share, time_of
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# On a CPU other processes preempt the training thread, which looks like Python: a little of it is no finding.
CPU_EXCESS_SHARE = 0.03
# Shorter pauses than this share of the step lie between any two steps: the loop's own lines, freeing the last batch.
CPU_PAUSE_SHARE = 0.05
# A CPU-only run with less Python between operators than this spends it on ordinary dispatch.
CPU_DISPATCH_SHARE = 0.15
_COMPILED_DISPATCH = 0.5  # dispatch time left on a CPU where a compiler fuses operators and leaves Python out


@rule("host-bound", "HO001", "the device waits for the host", also=("launch-bound", "small-kernels"))
def host_bound(run: Run) -> Outcome:
    """Judge launch and Python time."""
    if run.steps.source == WHOLE:
        return Skip(
            "the trace has no step marks, so start-up cannot be told from a steady step: call prof.step() in the loop"
        )
    steady = steady_of(run)
    host = host_time_of(run, steady)
    idle = part_of(run, "launch", "python")
    if idle.mean_ns < WORTH_SHARE * steady.step_ns:
        return None
    if run.is_cpu and not host.operations:
        return Skip("no operator was recorded in the steps, so what ran between communication is unknown")
    return _on_cpu(run, steady, host) if run.is_cpu else _on_device(run, steady, host, idle)


def _on_device(run: Run, steady: Steady, host: HostTime, idle: Part) -> Finding:
    pausing = _idle_in(run, host.pauses, steady)
    if pausing > idle.mean_ns / 2:
        return _pausing(run, steady, host)
    everything = joined(host.issuing, host.dispatch)
    total = max(steady.per_step(float((everything & steady.host).total_ns)), 1.0)
    waited_for = everything & late(run)
    graph = min(max(host.operations * GRAPH_NODE_NS / total, GRAPH_LEAST), 1.0)
    fewer = 1 - fusable_share(run, steady)
    advice = _advice(run, steady)
    mid = graph if advice.graph_fits else max(COMPILED_HOST_LEFT[1], graph)
    return Finding(
        summary=f"GPU waits for the host {idle.of_step}: {number(host.operations)} launches a step",
        fix=advice.fix,
        detail=_pace(run, steady, host, total) + (f"; {advice.unknown}" if advice.unknown else ""),
        change=Change(
            (ScaleHost(waited_for, max(fewer, graph)),),
            (ScaleHost(everything, mid),),
            (ScaleHost(joined(everything, host.pauses), 0.0),),
        ),
        evidence=(
            shown("GPU idle, host launching", seconds(part_of(run, "launch").stated_ns), "s"),
            shown("GPU idle, Python", seconds(part_of(run, "python").stated_ns), "s"),
            shown("device operations", host.operations, "per step"),
            shown("host time", seconds(total), "s"),
            shown("fusable launches", 1 - fewer, "share"),
            shown("CUDA graph", "fits" if advice.graph_fits else "not shown to fit"),
        ),
        risk="rounding",
        symptom_of=_roots(run, steady, idle),
    )


def _roots(run: Run, steady: Steady, idle: Part) -> tuple[str, ...]:
    """What would explain that the device waits: a loop over elements, or a few steps that stop for other work."""
    rare = ("long-steps",) if not idle.is_even else ()
    loops = element_loops(run)
    looping = loops and _idle_in(run, time_of_loops(run, loops), steady) > idle.mean_ns / 2
    return (*rare, "tensor-loop") if looping else rare


@dataclass(frozen=True, slots=True)
class _Advice:
    """What to do about launching, whether a graph of the step is known to fit, and what is unknown otherwise."""

    fix: str
    graph_fits: bool
    unknown: str | None


def _advice(run: Run, steady: Steady) -> _Advice:
    obstacle = obstacle_to_graph(run, steady)
    compiled = is_compiled(run)
    if is_graphed(run):
        return _Advice(
            "# enlarge the batch, or take the launches outside the CUDA graphs of this run into one of them",
            False,
            "graphs are in use already",
        )
    if obstacle is None:
        return _Advice('model = torch.compile(model, mode="reduce-overhead")', True, None)
    if compiled:
        return _Advice(
            '# enlarge the batch, or make mode="reduce-overhead" possible for the compiled model', False, obstacle
        )
    return _Advice("model = torch.compile(model)", False, f'no CUDA graph (mode="reduce-overhead") yet: {obstacle}')


def _pausing(run: Run, steady: Steady, host: HostTime) -> Finding:
    """Most of the idle time is long pauses: the program does something else than launching."""
    pauses = host.pauses & steady.host
    longest = longest_pause(host.pauses, steady)
    spot = run.spent_at(pauses)
    return Finding(
        summary=f"GPU waits for Python {part_of(run, 'python').of_step}",
        fix=_move(spot, "out of the training step, or into DataLoader workers"),
        detail=f"{number(steady.per_step(pauses.count))} pauses of more than 0.2 ms a step take "
        f"{time_of(steady.per_step(pauses.total_ns))}"
        + (f", the longest {time_of(longest[1] - longest[0])}" if longest else ""),
        change=Change(
            (ScaleHost(host.pauses & late(run), 0.5),),
            (ScaleHost(host.pauses, 0.0),),
            (ScaleHost(joined(host.issuing, host.dispatch, host.pauses), 0.0),),
        ),
        evidence=(
            shown("GPU idle, Python", seconds(part_of(run, "python").stated_ns), "s"),
            shown("long pauses", seconds(steady.per_step(pauses.total_ns)), "s"),
        ),
        effort="refactor",
        place=spot.place if spot else None,
    )


def _move(spot: Spot | None, where: str) -> str:
    return f"# move {spot.spelled} {where}" if spot else f"# move this Python work {where}"


def _on_cpu(run: Run, steady: Steady, host: HostTime) -> Finding | None:
    typical = int(host.typical_pause_ns)
    updating = spans(run, calls_of(run, OPTIMIZER_MARK))  # Python in there is a matter of the optimizer
    python = run.breakdown.owners["python"] - updating
    idle = steady.per_step(float((python & steady.host).total_ns))
    pauses = _longer_than(host.pauses & python, CPU_PAUSE_SHARE * steady.step_ns)
    length = pauses.lengths
    excess = _typical_excess(run, pauses & steady.host, typical)
    half, whole = _keep(pauses, (length + typical) // 2), _keep(pauses, np.minimum(length, typical))
    everything = (ScaleHost(python, 0.0),)
    if excess >= CPU_EXCESS_SHARE * steady.step_ns:
        spot = run.spent_at(pauses & steady.host)
        return Finding(
            summary=f"Python runs between operators {share(idle, steady.mean_ns)} of the step",
            fix=_move(spot, "out of the training step"),
            detail=f"{time_of(excess)} of it in long pauses; a typical pause takes {time_of(typical)}",
            change=Change((half,), (whole,), everything),
            evidence=(shown("Python", seconds(idle), "s"), shown("in long pauses", seconds(excess), "s")),
            effort="refactor",
            place=spot.place if spot else None,
        )
    if idle < CPU_DISPATCH_SHARE * steady.mean_ns:
        return None
    compiled = (ScaleHost(host.dispatch & python, _COMPILED_DISPATCH),)
    return Finding(
        summary=f"Dispatching {number(host.operations)} operators takes {share(idle, steady.mean_ns)} of the step",
        fix="model = torch.compile(model)",
        detail=f"a typical pause between operators takes {time_of(typical)}",
        change=Change(compiled, compiled, everything),
        evidence=(shown("Python", seconds(idle), "s"), shown("operators", host.operations, "per step")),
        risk="rounding",
        confidence="hint",
    )


def _longer_than(where: Intervals, least_ns: float) -> Intervals:
    keep = where.lengths > least_ns
    return Intervals(where.start[keep], where.end[keep])


def _typical_excess(run: Run, pauses: Intervals, typical_ns: int) -> float:
    """How much longer than a typical pause the long ones are in the median steady step, in nanoseconds."""
    steps = run.steps
    step = np.searchsorted(steps.host_start, pauses.start, side="right") - 1
    excess = np.bincount(step, np.maximum(pauses.lengths - typical_ns, 0), minlength=steps.count)
    return float(np.median(excess[steps.steady]))


def _keep(where: Intervals, keep_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Edit:
    return ShortenHost(where.start, where.end, keep_ns.astype(np.int64))


def _idle_in(run: Run, where: Intervals, steady: Steady) -> float:
    return steady.per_step(float((late(run) & where & steady.device).total_ns))


def _pace(run: Run, steady: Steady, host: HostTime, total: float) -> str:
    entries = steady.entries(run)
    kernel = float(np.median((run.activity.end - run.activity.start)[entries])) if entries.any() else 0.0
    return f"median kernel {time_of(kernel)}; the host spends {time_of(total / max(host.operations, 1))} on each"
