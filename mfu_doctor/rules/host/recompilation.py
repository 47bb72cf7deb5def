"""torch.compile compiles again during the steps.

What it measures
    Compile events in the analysed steps, and the recompilations that Dynamo counted during mfu_doctor.profile().

Why it costs
    A frame whose guards fail (a new shape, a changed Python value) is compiled again. This takes seconds and stops the step.

How the gain is predicted
    Low: half of the compile time in the analysed steps is removed.
    Mid and high: all of it is removed.
    Replay gives the new step time. If Dynamo counted recompilations only outside the analysed steps, no saving is predicted.

How to fix
    torch.compile(model, dynamic=True), or torch._dynamo.mark_dynamic on the dimension that varies. Pad batches to a few sizes.
    TORCH_LOGS="recompiles" names the guard that failed.

When it is wrong
    The rule is wrong if the recorded steps are warm-up: compilation in the first steps is normal. Skip more steps before
    recording.

References
    https://pytorch.org/docs/stable/torch.compiler_troubleshooting.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, share
from mfu_doctor.result.findings import Ends
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
        spent = steady.host_ns(compiling)
        gone = (ScaleHost(run.host.compile, 0.0),)
        return Finding(
            summary=f"Compilation takes {share(spent, steady.step_ns)} of the mean step",
            fix=_FIX,
            decides=Ends(low="half of the shapes stay new", high="no shape is new any more"),
            change=Change((ScaleHost(run.host.compile, 0.5),), gone, gone),
            evidence=(
                shown("compilations", steady.per_step(compiling.count), "per step"),
                shown("time", seconds(spent), "s"),
            ),
        )
    if recompiles:
        return Finding(
            summary=f"Dynamo compiled again {counted(recompiles, 'time')} during profile()",
            fix=_FIX,
            detail="none of this was in the analysed steps, so no saving is predicted",
            evidence=(shown("recompilations", recompiles, "count"),),
            confidence="measured",
            withhold="no compilation in the analysed steps: the saving is 0 ms",
        )
    if run.host.compile.count:
        return None  # it compiles, but not in the steady steps
    if run.facts is None:
        return Skip("this trace does not show whether torch.compile is used: record with mfu_doctor.profile()")
    if facts is not None and recompiles is None:
        return Skip("the run is compiled, but this torch does not count recompilations")
    return None
