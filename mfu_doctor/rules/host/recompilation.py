"""torch.compile compiles again during the steps.

What it measures
    Compilation spans inside the steady steps, and the recompilations that Dynamo counted over the block.

Why it costs
    A frame whose guards fail (a new shape, a changed Python value) is compiled again, which takes seconds and stops the step.

How the gain is predicted
    The compilation vanishes from the host in the steady steps (half of it at the low end). Replay gives the step. Where only the
    counter tells of recompilations outside the recorded steps, nothing is priced.

How to fix
    torch.compile(model, dynamic=True), or torch._dynamo.mark_dynamic on the dimension that varies; pad batches to a few sizes.
    TORCH_LOGS="recompiles" names the guard that failed.

When it is wrong
    The first steps compile on purpose; record later (more skipped steps) if these are warm-up.

References
    https://pytorch.org/docs/stable/torch.compiler_troubleshooting.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

_FIX = 'model = torch.compile(model, dynamic=True)  # TORCH_LOGS="recompiles" names the guard that fails'


@rule("recompilation", "HO003", "code is compiled again during the steps", also=("dynamic-shapes", "graph-breaks"))
def recompilation(run: Run) -> Outcome:
    """Judge compilation in the steady steps."""
    steady = steady_of(run)
    compiling = run.host.compile & steady.host
    facts = run.facts.compile if run.facts is not None else None
    recompiles = facts.recompiles if facts is not None else None
    if compiling.count:
        spent = steady.per_step(float(compiling.total_ns))
        gone = (ScaleHost(run.host.compile, 0.0),)
        return Finding(
            summary=f"Compilation takes {share(spent, steady.mean_ns)} of the mean step",
            fix=_FIX,
            change=Change((ScaleHost(run.host.compile, 0.5),), gone, gone),
            evidence=(
                shown("compilations", steady.per_step(compiling.count), "per step"),
                shown("time", seconds(spent), "s"),
            ),
        )
    if recompiles:
        return Finding(
            summary=f"Dynamo compiled again {counted(recompiles, 'time')} during the block",
            fix=_FIX,
            detail="none of it fell into the recorded steps, so it has no price",
            evidence=(shown("recompilations", recompiles, "count"),),
            confidence="measured",
            withhold="no compilation in the recorded steps: it saves 0.0 ms of them",
        )
    if run.host.compile.count:
        return None  # it compiles, and not in the steady steps
    if run.facts is None:
        return Skip("whether the run compiles is not in this trace: record with mfu_doctor.profile()")
    if facts is not None and recompiles is None:
        return Skip("the run is compiled, but this torch does not count recompilations")
    return None
