"""The model runs in eager mode. A compiler would fuse its small kernels and remove Python from the step.

What it measures
    Idle time of the GPU while the CPU launches kernels, and chains of pointwise kernels that follow one another on a stream.
    The rule is not applied if the trace contains compiled regions or Triton kernels.

Why it costs
    In eager mode each operator costs a kernel launch on the CPU, and memory traffic to write its result and read it again.

How the gain is predicted
    Each chain becomes one kernel (see unfused-elementwise). The launch time on the CPU becomes shorter:
    Low: 70 % of it remains, counted only in the time for which the GPU waits.
    Mid: 50 % remains.
    High: 30 % remains.
    The saving does not include the compile time. The finding shows after how many steps the compile time is recovered.

How to fix
    model = torch.compile(model), with mode="reduce-overhead" if launches take most of the time.

When it is wrong
    The rule is wrong if shapes change or the graph breaks: then the gain is lost (recompilation). A job of a few minutes does
    not recover the compile time.

References
    Ansel et al., PyTorch 2, ASPLOS 2024.
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.chains import fused, pointwise_chains
from mfu_doctor.analysis.evidence.graphs import is_compiled, obstacle_to_compile
from mfu_doctor.analysis.evidence.host_time import COMPILED_HOST_LEFT, host_time_of, joined, late, parts_of_wait
from mfu_doctor.analysis.evidence.loop_kinds import owns_most
from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# What compiling a training step takes once: half a minute for a small model, three minutes for a large one.
_COMPILE_NS = (30 * NS_PER_S, 180 * NS_PER_S)
# Every eager run launches and has activations: below this share of the step together, a compiler can save too little.
ORDINARY_SHARE = 0.05


@rule(
    "uncompiled",
    "HO008",
    "eager mode has launches and memory traffic that torch.compile removes",
    needs=(Need.DEVICE,),
    also=("torch-compile",),
)
def uncompiled(run: Run) -> Outcome:
    """Judge how much torch.compile could save."""
    if is_compiled(run):
        return None
    if run.steps.source == WHOLE:
        return Skip("the trace has no step events, so warm-up cannot be separated: call prof.step() in the loop")
    steady = steady_of(run)
    chains = pointwise_chains(run)
    idle = part_of(run, "launch", "python")
    fusable = chains.per_step_ns(run, steady) if chains is not None else 0.0
    if idle.mean_ns + fusable < ORDINARY_SHARE * steady.step_ns:
        return None
    host = host_time_of(run, steady)
    everything = joined(host.issuing, host.dispatch)
    where = (everything & late(run), everything, everything)
    fusing = fused(run, chains) if chains is not None else ((), (), ())

    def end(which: int) -> tuple[Edit, ...]:
        return (*fusing[which], ScaleHost(where[which], COMPILED_HOST_LEFT[which]))

    return Finding(
        summary=f"GPU waits for the CPU {idle.of_step}{parts_of_wait(run, steady)}; fusable pointwise kernels take "
        f"{steady.share(fusable)} of the step",
        fix="model = torch.compile(model)",
        detail=_earned_back(run, end(1)),
        decides=Ends(low="it needs 70 %", high="compiled code needs 30 % of the CPU time"),
        change=Change(end(0), end(1), end(2)),
        evidence=(
            shown("GPU idle, CPU launches", seconds(idle.mean_ns), "s"),
            shown("pointwise chains", seconds(fusable), "s"),
            shown("chains", steady.per_step(chains.count_in(run, steady)) if chains is not None else 0, "per step"),
        ),
        risk="rounding",
        withhold=obstacle_to_compile(run),
        symptom_of=_roots(run, idle.mean_ns > fusable),
        confidence="modelled" if chains is not None else "hint",
    )


def _roots(run: Run, waits: bool) -> tuple[str, ...]:
    """What explains eager launches: a loop that issues most of what the device waits for, or all that the host does."""
    looped = ("tensor-loop",) if owns_most(run, late(run)) else ()
    return (*looped, "host-bound") if waits else looped


def _earned_back(run: Run, edits: tuple[Edit, ...]) -> str:
    """How long compiling takes, and after how many steps the mid end has saved that."""
    saved = run.replay.measured_ns - run.replay.step_ns(edits) if run.replay.trusted else 0.0
    once = "compiling takes 0.5 to 3 minutes once"
    if saved < WORTH_SHARE * run.replay.measured_ns:
        return once
    few, many = (number(round(spent / saved, -2) or 100) for spent in _COMPILE_NS)
    return f"{once}, recovered after {few} to {many} steps"
