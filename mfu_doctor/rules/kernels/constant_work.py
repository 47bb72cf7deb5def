"""Steps compute what is the same in each of them: masks, tables of positions, distances, products of constants.

What it measures
    Functions of the program that return the same numbers in all of a few steps, to the last bit, and are given the same tensors
    (or numbers) each time. profile() and mfu-doctor run compare what functions return on the CPU, in steps whose times are not
    used. A result with a gradient, or one that a module with trained parameters is called for, is not compared, nor is one of a
    few numbers, or of one number only. What draws random numbers is left out. The time is that of all operators of these calls.

Why it costs
    Neither a parameter nor a batch is a part of it: the same numbers are computed again in each step, or in each layer.

How the gain is predicted
    The operators of these calls are removed.
    Low: only their device time.
    Mid and high: the time to launch them on the CPU as well.

How to fix
    Call the function once, before the loop, and keep what it returns: as a buffer of the module
    (self.register_buffer("mask", mask, persistent=False)), or for each size with functools.cache. Prepare the data once where it
    is a product of the data alone.

When it is wrong
    The rule is wrong if the result depends on something that only changes later in the run: a mask that follows an epoch, an
    index of a batch that was equal by chance, a network whose weights are replaced now and then.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_buffer
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns
from mfu_doctor.analysis.evidence.constant_results import constant_results_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_NAMED = 2  # functions


@rule(
    "constant-work",
    "KE048",
    "steps compute what is the same in each of them",
    needs=(Need.FACTS,),
    also=("constant-mask", "positional-encoding", "precompute", "loop-invariant"),
)
def constant_work(run: Run) -> Outcome:
    """Look for functions that give the same in every step."""
    if run.facts is None or run.facts.constant_results is None:
        return Skip(
            "what functions return was not compared: that needs two steps before the recording, of not too many calls"
        )
    found = constant_results_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = device_ns(run, steady, found.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    top = found.functions[0]
    names = " and ".join(f"{one.function}()" for one in found.functions[:_NAMED])
    gives = "give" if len(found.functions) > 1 else "gives"
    each = f"it is called {counted(top.calls, 'time')} a step, and " if top.calls > 1 else ""
    return Finding(
        summary=f"{names} {gives} the same in each step, which takes {steady.share(spent)} of the step",
        fix=f"kept = {top.function}(...)  # once, before the loop, or register_buffer() in the module that needs it",
        detail=f"{each}what it returned in {counted(top.steps, 'step')} is equal to the last bit, and so is what it was given; "
        "if something changes it later in the run (a schedule, weights that are frozen now), it is needed again then",
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=found.removed(run),
        evidence=(
            shown("their operators", seconds(spent), "s"),
            *(
                shown(f"calls of {one.function}()", one.calls, "per step", one.place)
                for one in found.functions[:_NAMED]
            ),
        ),
        place=top.place,
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run))[found.mask].sum()),
    )
