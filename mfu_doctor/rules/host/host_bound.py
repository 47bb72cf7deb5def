"""The GPU waits for the CPU: Python and the framework launch kernels more slowly than the GPU runs them.

What it measures
    Idle time of the GPU in which the CPU launched operators (launching) or ran Python between them (Python), and the kernels per
    step. A run is called host-bound if the two together take more than half of its step. The rule also tests whether the gaps
    between operators on the CPU are short (dispatch) or long (other Python code). In a CPU-only run, operator time counts as
    device time. The rule then measures the Python time between operators.

Why it costs
    An eager operator takes the CPU 5 to 50 us. If kernels are shorter than that, the GPU is idle, however fast it is.

How the gain is predicted
    Replay simulates the recorded timeline again with less CPU time. If the GPU is the bottleneck, nothing is saved.
    The CPU time of the optimizer stays: what is compiled is the model.
    If this run shows that a CUDA graph is possible (same kernels in each step, no synchronisation), the CPU time becomes 30 % of
    it (low) or that of one graph launch (mid); high: nothing remains, of the optimizer either.
    If it shows that none is possible, or if nothing tells: low: kernel fusion removes some launches (their share is counted in
    this run), and only the CPU time for which the GPU waits becomes shorter. Mid: the CPU time is halved, as with torch.compile.
    High: 30 % of it remains; if nothing tells, nothing remains, long gaps included.
    No end saves more than the GPU waits for the CPU and, as the CPU then loads it earlier, for data.
    If long gaps cause most of the idle time: low removes half of those for which the GPU waits (all of them if one line of the
    program fills them), mid removes all long gaps.
    In a CPU-only run: mid removes what long gaps take above the typical gap, high removes all Python between operators. A line
    that fills the gaps takes them with it, so low is what its thread did on a CPU in them. If a thread that the program started
    takes cores from the step, mid and high count these as given back: the line feeds it. Without such a line low is half of
    that, and time in which the thread was not on a CPU (preempted, or waiting) stays, beyond what it loses in operators as well.
    The same if each gap is short, but most gaps are longer than dispatch takes (0.2 ms).
    Other short gaps are ordinary dispatch: mid halves them, and low saves nothing, because compiled small models were measured at
    0.8 to 1.2 times their eager step on a CPU. Where the thread waits at a line of its own, this wait is removed.
    A fix that is to make Python cheaper or to move it may leave some of it: its saving says "up to".

How to fix
    model = torch.compile(model), with mode="reduce-overhead" if a CUDA graph is possible. Larger batches. If there are long
    gaps: move logging, augmentation or metrics out of the step, or into a DataLoader worker. In inference: several requests in
    one batch, so that one launch serves all; to generate text, a static cache, whose shapes a CUDA graph can replay.

When it is wrong
    A line is named only if it issues no operators and is not the training step itself (model(x), loss.backward(), a trainer).
    The rule shows too much if the trace was recorded with stacks or shapes: the profiler slows the CPU, not the GPU. A CUDA
    graph needs static shapes and no synchronisation inside.

References
    https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.diagnostics import takes_most
from mfu_doctor.analysis.evidence.forward_only import is_forward_only, is_inference
from mfu_doctor.analysis.evidence.given_back import busiest_thread, threads_given_back
from mfu_doctor.analysis.evidence.graphs import obstacle_to_compile
from mfu_doctor.analysis.evidence.host_time import (
    HostTime,
    LongGaps,
    and_for_data,
    at_one_line,
    fusable_share,
    host_time_of,
    joined,
    late,
    long_gaps,
    longest_pause,
    pace,
    parts_of_wait,
)
from mfu_doctor.analysis.evidence.launch_advice import cheaper_launches, launch_advice
from mfu_doctor.analysis.evidence.loader_restarts import is_of_restarts
from mfu_doctor.analysis.evidence.loop_kinds import small_ops
from mfu_doctor.analysis.evidence.loop_kinds import time_of as time_in_loops
from mfu_doctor.analysis.evidence.rare_work import roots_of_rare_work
from mfu_doctor.analysis.evidence.roots_on_cpu import roots_on_cpu
from mfu_doctor.analysis.evidence.steady_steps import Part, Steady, part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import Spot
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.quantities import number, share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Gaps longer than dispatch takes are Python of the program, however short each is, where they take this share of all gaps.
_MOSTLY_PYTHON = 0.5
# On a CPU other processes preempt the main thread, which looks like Python: a little of it is not a finding.
CPU_EXCESS_SHARE = 0.03
# Shorter gaps than this share of the step are between any two steps: the lines of the loop, freeing the last batch.
CPU_PAUSE_SHARE = 0.05
# A CPU-only run with less Python between operators than this, and no line that has most of it, spends it on ordinary dispatch.
CPU_DISPATCH_SHARE = 0.15
# Below this share of a gap on the CPU, the thread waits in it rather than runs Python.
_AWAKE = 0.5
_COMPILED_DISPATCH = 0.5  # dispatch time that remains on a CPU if a compiler fuses operators and removes Python
_FITS = {True: "possible", False: "not possible", None: "not known"}
_PAUSES = Ends(low="half of it has to stay", high="this Python can leave the step")
_OTHER_THREAD = "to another thread"
_GPU_OR_THREAD = f"to the GPU, or {_OTHER_THREAD}"
_PYTHON = Ends(low="half of the long gaps stay", high="no Python stays between operators")
_COMPILED = Ends(low="compiled code is not faster, as of some small models", high="no Python stays between operators")
_FEEDS = Ends(low="the time off the CPU stays, and that thread keeps its cores", high="both go")
_LINE = Ends(low="the time off the CPU stays", high="no Python stays between operators")


@rule("host-bound", "HO001", "the device waits for the CPU", also=("launch-bound", "small-kernels"))
def host_bound(run: Run) -> Outcome:
    """Judge launch and Python time."""
    if run.steps.source == WHOLE:
        return Skip("the trace has no step events, so warm-up cannot be separated: call prof.step() in the loop")
    steady = steady_of(run)
    host = host_time_of(run, steady)
    idle = part_of(run, "launch", "python")
    if idle.mean_ns < WORTH_SHARE * steady.step_ns:
        return None
    if run.is_cpu and not host.operations:
        return Skip("no operators were recorded in the steps, so the work between communication is unknown")
    return _on_cpu(run, steady, host) if run.is_cpu else _on_device(run, steady, host, idle)


def _on_device(run: Run, steady: Steady, host: HostTime, idle: Part) -> Finding:
    pausing = _idle_in(run, host.pauses, steady)
    if pausing > idle.mean_ns / 2:
        return _pausing(run, steady, host)
    everything = joined(host.issuing, host.dispatch)
    total = max(steady.host_ns(everything), 1.0)
    fusable = fusable_share(run, steady)
    advice = launch_advice(run, steady)
    return Finding(
        summary=f"GPU waits for the CPU {idle.of_step}{parts_of_wait(run, steady)}{and_for_data(run, steady)}: "
        f"{number(host.operations)} kernels",
        fix=advice.fix,
        detail=pace(run, steady, host, total) + (f"; {advice.unknown}" if advice.unknown else ""),
        decides=advice.decides,
        change=cheaper_launches(run, steady, host, advice.graph_fits),
        evidence=(
            shown("GPU idle, CPU launches", seconds(part_of(run, "launch").mean_ns), "s"),
            shown("GPU idle, Python", seconds(part_of(run, "python").mean_ns), "s"),
            shown("kernels", host.operations, "per step"),
            shown("CPU time", seconds(total), "s"),
            shown("fusable launches", fusable, "share"),
            shown("CUDA graph", _FITS[advice.graph_fits]),
        ),
        risk="rounding",
        symptom_of=_roots(run, steady, idle),
        mostly_of="input-bound" if part_of(run, "data_loading").mean_ns > idle.mean_ns else None,
        at_most=_lost(run, steady),
    )


def _lost(run: Run, steady: Steady) -> float:
    """The share of the step in which the device waits for the CPU, or for the batch that the CPU then loads earlier."""
    return part_of(run, "launch", "python", "data_loading").mean_ns / steady.step_ns


def _roots(run: Run, steady: Steady, idle: Part) -> tuple[str, ...]:
    """What explains that the device waits: statistics, a loop over elements, or a few steps that contain other work."""
    read = ("diagnostics-in-step",) if takes_most(run, late(run) & steady.device) else ()
    rare = ("long-steps",) if not idle.is_even else ()
    loops = small_ops(run)
    looping = loops and _idle_in(run, time_in_loops(loops), steady) > idle.mean_ns / 2
    begun = ("restarted-loader",) if is_of_restarts(run, late(run) & steady.device) else ()
    return (*rare, *read, *begun, "tensor-loop") if looping else (*rare, *read, *begun)


def _pausing(run: Run, steady: Steady, host: HostTime) -> Finding:
    """Most of the idle time is in long gaps: the program does something else than launching."""
    pauses = host.pauses & steady.host
    longest = longest_pause(host.pauses, steady)
    spot = run.python_at(pauses)
    awake = run.awake_share(pauses)
    waits = awake is not None and awake < _AWAKE
    asleep = f"the main thread, which is not on a CPU, {part_of(run, 'python').of_step}"
    told = asleep if waits else f"the CPU {part_of(run, 'launch', 'python').of_step}{parts_of_wait(run, steady)}"
    return Finding(
        summary=f"GPU waits for {told}",
        fix=_move(spot, _where_to(run, "out of the training step, or into DataLoader workers", _GPU_OR_THREAD)),
        detail=f"gaps of the CPU longer than 0.2 ms: {number(steady.per_step(pauses.count))} per step, "
        f"{time_of(steady.per_step(pauses.total_ns))} in total"
        + (f", the longest {time_of(longest[1] - longest[0])}" if longest else ""),
        decides=_PAUSES,
        change=Change(
            (ScaleHost(host.pauses & late(run), 0.0 if spot and not waits else 0.5),),
            (ScaleHost(host.pauses, 0.0),),
            (ScaleHost(joined(host.issuing, host.dispatch, host.pauses), 0.0),),
        ),
        evidence=(
            shown("GPU idle, Python", seconds(part_of(run, "python").mean_ns), "s"),
            shown("long gaps of the CPU", seconds(steady.per_step(pauses.total_ns)), "s"),
        ),
        effort="refactor",
        at_best=True,
        at_most=_lost(run, steady),
        place=spot.place if spot else None,
        symptom_of=roots_of_rare_work(run, pauses),
    )


def _move(spot: Spot | None, where: str) -> str:
    """What to do about Python that takes its time at this place: not all of it can be moved."""
    return f"# make {spot.spelled if spot else 'the Python work'} cheaper, or move it {where}"


def _where_to(run: Run, training: str, forward: str) -> str:
    """Where it can go. Inference has no training step: what the next request needs can be prepared while this one runs."""
    if not is_forward_only(run):
        return training
    return f"{forward}, for the next request" if is_inference(run) else forward


def _on_cpu(run: Run, steady: Steady, host: HostTime) -> Finding | None:
    python = run.breakdown.owners["python"] - run.optimizer_steps.own  # the optimizer has rules of its own
    idle = steady.host_ns(python)
    gaps = long_gaps(run, steady, host, python, CPU_PAUSE_SHARE * steady.step_ns)
    awake = gaps.awake
    least = CPU_EXCESS_SHARE * steady.step_ns
    middling = long_gaps(run, steady, host, python, 0.0)
    told, is_much = None, idle >= CPU_DISPATCH_SHARE * steady.step_ns
    if gaps.excess_ns * awake >= least:
        same_line = at_one_line(run, gaps.pauses & steady.host, middling.pauses & steady.host)
        told = _python(run, steady, middling if same_line else gaps, idle)
    elif gaps.excess_ns >= least and awake < _AWAKE:
        return _asleep(run, steady, gaps)
    elif is_much and middling.excess_ns * middling.awake >= _MOSTLY_PYTHON * idle:
        told = _python(run, steady, middling, idle)
    if told is not None or not is_much:
        return told
    compiled = (ScaleHost(host.dispatch & python, _COMPILED_DISPATCH),)
    return Finding(
        summary=f"Dispatching {number(host.operations)} operators takes {share(idle, steady.step_ns)} of the step",
        fix="model = torch.compile(model)",
        detail=f"a typical gap between operators takes {time_of(host.typical_pause_ns)}",
        decides=_COMPILED,
        change=Change((), compiled, (ScaleHost(python, 0.0),)),  # compiled code is not known to be faster on a CPU
        evidence=(shown("Python", seconds(idle), "s"), shown("operators", host.operations, "per step")),
        risk="rounding",
        confidence="hint",
        withhold=obstacle_to_compile(run),
        symptom_of=roots_on_cpu(run, python & steady.host),
    )


def _python(run: Run, steady: Steady, gaps: LongGaps, idle: float) -> Finding | None:
    """Long gaps in which Python runs. A line takes its gaps with it; with no line, time off the CPU may be anybody's."""
    pauses, length = gaps.pauses, gaps.pauses.lengths
    spot = run.python_at(pauses & steady.host)
    if spot is None and run.facts is not None and gaps.excess_ns * gaps.awake < CPU_DISPATCH_SHARE * steady.step_ns:
        return None  # samples of the stack name no line that has most of it: what is beside dispatch is that of any program
    excess = np.maximum(length - gaps.typical_ns, 0)
    sure, likely = (1.0, 1.0) if spot else (0.5, gaps.awake)
    low, mid = _keep(pauses, length - excess * gaps.awake * sure), _keep(pauses, length - excess * likely)
    freed = threads_given_back(run) if spot else ()
    fed = f"; {busiest_thread(run)} takes cores from the rest of the step" if freed else ""
    python = run.breakdown.owners["python"] - run.optimizer_steps.own
    off = steady.host_ns(pauses) * (1 - gaps.awake)
    waiting = f"; in {time_of(off)} of them the thread was not on a CPU" if off >= WORTH_SHARE * steady.step_ns else ""
    return Finding(
        summary=f"Python between operators takes {part_of(run, 'python').of_step}",
        fix=_move(spot, _where_to(run, "out of the training step", _OTHER_THREAD)),
        detail=f"long gaps between operators take {time_of(gaps.excess_ns)} of it; a typical gap takes "
        f"{time_of(gaps.typical_ns)}{waiting}{fed}",
        decides=_FEEDS if freed else _LINE if spot else _PYTHON,
        change=Change((low,), (mid, *freed[:1]), (ScaleHost(python, 1 - likely), *freed[1:])),
        evidence=(shown("Python", seconds(idle - off), "s"), shown("in long gaps", seconds(gaps.excess_ns), "s")),
        effort="refactor",
        at_best=True,
        place=spot.place if spot else None,
        symptom_of=roots_on_cpu(run, pauses & steady.host),
    )


def _asleep(run: Run, steady: Steady, gaps: LongGaps) -> Finding | None:
    """Long gaps in which the thread was off the CPU: at a line that waits, or because others had its core."""
    spot = run.python_at(gaps.pauses & steady.host)
    if spot is None:
        return None
    spent = steady.host_ns(gaps.pauses)
    half = _keep(gaps.pauses, (gaps.pauses.lengths + gaps.typical_ns) / 2)
    whole = _keep(gaps.pauses, np.minimum(gaps.pauses.lengths, gaps.typical_ns))
    return Finding(
        summary=f"The main thread waits {share(spent, steady.step_ns)} of the step, neither for data nor in an operator",
        fix=_move(spot, _where_to(run, "out of the training step, or to another thread", _OTHER_THREAD)),
        detail=f"{share(gaps.awake, 1.0)} of this time is work on a CPU; the rest is a file, the network, a lock or a sleep",
        decides=Ends(low="half of it stays", high="none of this wait stays in the step"),
        change=Change((half,), (whole,), (whole,)),
        evidence=(shown("waiting", seconds(spent), "s"), shown("work on a CPU", gaps.awake, "share")),
        effort="refactor",
        at_best=True,
        place=spot.place,
    )


def _keep(where: Intervals, keep_ns: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Edit:
    return ShortenHost(where.start, where.end, keep_ns.astype(np.int64))


def _idle_in(run: Run, where: Intervals, steady: Steady) -> float:
    return steady.per_step(float((late(run) & where & steady.device).total_ns))
