"""Steps issue the same kernels in the same order each time, one launch after another, where one graph launch would do.

What it measures
    Whether all steady steps run the same kernels with the same grids in the same order, whether the host waits inside
    them, and how long launching leaves the device idle.

Why it costs
    A CUDA graph replays hundreds of kernels with one call; the host then needs microseconds for what takes it
    milliseconds.

How the gain is predicted
    The host time of issuing shrinks to a graph launch of as many nodes (mid), to 30 % (low: inputs are copied, Python
    remains around the graph), to nothing (high).

How to fix
    torch.cuda.make_graphed_callables, torch.cuda.graph around the step, or torch.compile(mode="reduce-overhead").

When it is wrong
    Dropout needs graph-safe random numbers (PyTorch has them); data-dependent branches that were equal by chance in these
    steps.

References
    https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.graphs import is_graphed, kernels_by_step, obstacle_to_graph
from mfu_doctor.analysis.evidence.host_time import GRAPH_LEAST, GRAPH_NODE_NS, host_time_of, joined, late
from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Cautious end: memory for static inputs and copies into them, and Python around the graph, keep this part of the host time.
_CAUTIOUS = 0.3


@rule(
    "ungraphed-steps",
    "HO007",
    "equal steps are launched kernel by kernel",
    needs=(Need.DEVICE,),
    also=("cuda-graphs", "reduce-overhead"),
)
def ungraphed_steps(run: Run) -> Outcome:
    """Judge whether steps could be CUDA graphs."""
    steady = steady_of(run)
    idle = part_of(run, "launch", "python")
    if idle.mean_ns < WORTH_SHARE * steady.step_ns or is_graphed(run):
        return None
    obstacle = obstacle_to_graph(run, steady)
    if obstacle is not None:
        return Skip(obstacle)
    launched = len(kernels_by_step(run)[0])
    host = host_time_of(run, steady)
    everything = joined(host.issuing, host.dispatch)
    waited_for = everything & late(run)
    total = max(steady.per_step(float((everything & steady.host).total_ns)), 1.0)
    graph = min(max(host.operations * GRAPH_NODE_NS / total, GRAPH_LEAST), 1.0)
    return Finding(
        summary=f"{number(launched)} equal launches in each of {steady.count} steps; launching leaves the GPU idle "
        f"{idle.of_step}",
        fix="model = torch.cuda.make_graphed_callables(model, (example_batch,))",
        detail="the same kernels in the same order in every step and no synchronisation inside: a CUDA graph fits",
        change=Change(
            (ScaleHost(waited_for, max(_CAUTIOUS, graph)),),
            (ScaleHost(everything, graph),),
            (ScaleHost(everything, 0.0),),
        ),
        evidence=(
            shown("launches", launched, "per step"),
            shown("equal steps", steady.count, "count"),
            shown("GPU idle", seconds(idle.stated_ns), "s"),
        ),
        effort="refactor",
        symptom_of=("host-bound",),
    )
