"""The model runs eagerly although a compiler would merge its small kernels and leave Python out of the step.

What it measures
    Idle time of the device while the host launches, and chains of pointwise kernels that follow one another on a stream.
    A trace that shows compiled regions or Triton kernels is not judged.

Why it costs
    Eager mode pays for every operator twice: once on the host to launch it, once in memory traffic to hand its result to
    the next.

How the gain is predicted
    Chains become one kernel each (see unfused-elementwise), and the host time of issuing shrinks to 70 %, 50 % or 30 %.
    The time of compiling is not in the saving; after how many steps it is earned back is stated beside it.

How to fix
    model = torch.compile(model), with mode="reduce-overhead" where launching dominates.

When it is wrong
    Changing shapes and graph breaks take the gain away (recompilation). A job of minutes does not earn the compile time
    back.

References
    Ansel et al., PyTorch 2, ASPLOS 2024.
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.chains import fused, pointwise_chains
from mfu_doctor.analysis.evidence.graphs import is_compiled
from mfu_doctor.analysis.evidence.host_time import COMPILED_HOST_LEFT, host_time_of, joined, late
from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import number
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# What compiling a training step takes once: half a minute for a small model, three minutes for a large one.
_COMPILE_NS = (30 * NS_PER_S, 180 * NS_PER_S)
# Every eager run launches and has activations: below this share of the step together they leave a compiler nothing to do.
ORDINARY_SHARE = 0.05


@rule(
    "uncompiled",
    "HO008",
    "eager execution leaves launches and memory traffic to a compiler",
    needs=(Need.DEVICE,),
    also=("torch-compile",),
)
def uncompiled(run: Run) -> Outcome:
    """Judge what torch.compile would find to do."""
    if is_compiled(run):
        return None
    if run.steps.source == WHOLE:
        return Skip(
            "the trace has no step marks, so start-up cannot be told from a steady step: call prof.step() in the loop"
        )
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
        summary=f"Eager kernels: launching leaves the GPU idle {idle.of_step}, fusable pointwise chains take "
        f"{steady.share(fusable)} of it",
        fix="model = torch.compile(model)",
        detail=_earned_back(run, end(1)),
        change=Change(end(0), end(1), end(2)),
        evidence=(
            shown("GPU idle, host launching", seconds(idle.stated_ns), "s"),
            shown("pointwise chains", seconds(fusable), "s"),
            shown("chains", steady.per_step(chains.count_in(run, steady)) if chains is not None else 0, "per step"),
        ),
        risk="rounding",
        symptom_of=("host-bound",) if idle.mean_ns > fusable else (),
        confidence="modelled" if chains is not None else "hint",
    )


def _earned_back(run: Run, edits: tuple[Edit, ...]) -> str:
    """How long compiling takes, and how many steps at the mid end earn that back."""
    saved = run.replay.measured_ns - run.replay.step_ns(edits) if run.replay.trusted else 0.0
    once = "compiling takes 0.5 to 3 minutes once"
    if saved < WORTH_SHARE * run.replay.measured_ns:
        return once
    few, many = (number(round(spent / saved, -2) or 100) for spent in _COMPILE_NS)
    return f"{once}, earned back after {few} to {many} steps"
