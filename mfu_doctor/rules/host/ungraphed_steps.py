"""All steps run the same kernels in the same order, but each kernel is launched separately. One CUDA graph launch could do it.

What it measures
    Whether all analysed steps run the same kernels with the same grids in the same order, whether the CPU waits for the GPU
    inside them, and how long the GPU is idle because of launches.

Why it costs
    A CUDA graph runs hundreds of kernels with one launch. The CPU then needs microseconds instead of milliseconds.

How the gain is predicted
    The launch time of the optimizer stays: what is captured is the model.
    Low: 30 % of the launch time remains, because inputs are copied and Python runs around the graph.
    Mid: it becomes that of one graph launch with the same number of kernels.
    High: no launch time remains, of the optimizer either (torch.cuda.graph around the whole step).

How to fix
    torch.cuda.make_graphed_callables, torch.cuda.graph around the step, or torch.compile(mode="reduce-overhead").

When it is wrong
    The rule is wrong if data-dependent branches were the same in these steps only by chance. Dropout needs random numbers that
    are safe in graphs (PyTorch has them).

References
    https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.graphs import is_graphed, kernels_by_step, obstacle_to_graph
from mfu_doctor.analysis.evidence.host_time import host_time_of, parts_of_wait
from mfu_doctor.analysis.evidence.launch_advice import cheaper_launches
from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "ungraphed-steps",
    "HO007",
    "identical steps are launched kernel by kernel",
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
    return Finding(
        summary=f"GPU waits for the CPU {idle.of_step}{parts_of_wait(run, steady)}; each of {steady.count} steps runs the same "
        f"{number(launched)} kernels",
        fix="model = torch.cuda.make_graphed_callables(model, (example_batch,))",
        detail="every step runs the same kernels in the same order without synchronisation, so a CUDA graph is possible",
        decides=Ends(
            low="filling the graph's inputs takes 30 % of launching", high="the optimizer is in the graph too"
        ),
        change=cheaper_launches(run, steady, host_time_of(run, steady), graph_fits=True),
        evidence=(
            shown("kernels", launched, "per step"),
            shown("identical steps", steady.count, "count"),
            shown("GPU idle", seconds(idle.mean_ns), "s"),
        ),
        effort="refactor",
        symptom_of=("host-bound",),
        at_most=part_of(run, "launch", "python", "data_loading").mean_ns / steady.step_ns,
    )
