"""Tensors are copied to another memory layout although the next operator does not need it.

What it measures
    The device time of contiguous() and clone() on tensors with another memory layout, by the operator that reads the copy:
    another such copy, an operator that accepts strides (matmuls, pointwise operators), or one that needs the copy (a view,
    a norm).

Why it costs
    A copy reads and writes the whole tensor and computes nothing. A transposing copy is slower, because it reads or writes across
    cache lines.

How the gain is predicted
    Low: a copy is removed if its result is copied again immediately. If the second copy restores the original layout, both
    are removed.
    Mid: in addition, half of the time of copies that are read by operators which accept strides.
    High: in addition, all of that time.
    Copies that are needed remain, and so do copies that autograd makes in backward.

How to fix
    Remove .contiguous() before operators that accept strides. Use reshape instead of contiguous().view(). Create tensors in
    the layout that the next operator needs.

When it is wrong
    The rule is wrong if the copy is kept for later and needed there: it looks only at the next operator on the thread. Kernels
    that need contiguous input make the copy themselves.

References
    https://pytorch.org/docs/stable/tensor_view.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, removed, scaled
from mfu_doctor.analysis.evidence.layout_copies import NEEDED, NEEDLESS, PERHAPS, layout_copies_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@rule(
    "contiguous-copies",
    "KE012",
    "tensors are copied only to change their memory layout",
    also=("contiguous", "transpose"),
)
def contiguous_copies(run: Run) -> Outcome:
    """Judge copies that only change the memory layout."""
    copies = layout_copies_of(run)
    if copies is None:
        return None
    steady = steady_of(run)
    needless, perhaps = copies.work(NEEDLESS), copies.work(PERHAPS)
    avoidable = device_ns(run, steady, needless | perhaps)
    if avoidable < WORTH_SHARE * steady.step_ns:
        return None
    calls = steady.issued(run, copies.calls[copies.verdict != NEEDED])
    again = steady.issued(run, copies.calls[copies.verdict == NEEDLESS])
    sure = removed(run, needless, copies.calls[copies.verdict == NEEDLESS]) if needless.any() else ()
    everything = device_ns(run, steady, copies.call_of >= 0)
    return Finding(
        summary=f"Avoidable layout copies take {steady.share(avoidable)} of the step "
        f"({counted(steady.per_step(len(calls)), 'copy')} per step)",
        fix="# remove .contiguous() and .clone() if the next operator accepts strides (matmul and attention do)",
        detail=f"{counted(steady.per_step(len(again)), 'copy')} per step: copied again immediately or back to the old layout"
        if len(again)
        else None,
        decides=Ends(
            low="most copies are needed by what reads them", high="no operator that reads them needs the copy"
        ),
        change=Change(sure, (*sure, *scaled(run, perhaps, 0.5)), (*sure, *scaled(run, perhaps, 0.0))),
        evidence=(
            shown("avoidable copies", steady.per_step(len(calls)), "per step"),
            shown("cancelled or repeated copies", steady.per_step(len(again)), "per step"),
            shown("avoidable", seconds(avoidable), "s"),
            shown("all layout copies", seconds(everything), "s"),
        ),
        place=first_place(run, calls),
        confidence="modelled" if len(again) else "hint",
    )
