"""Tensors are copied into another order only to be copied back, or for an operator that takes any order.

What it measures
    The device work of contiguous() and clone() on tensors whose elements lie in another order, by what reads the copy: another
    such copy, an operator that takes strides (products, pointwise operators), or one that needs the copy (a view, a norm).

Why it costs
    A copy reads and writes the whole tensor and computes nothing; a transposing one reads or writes across cache lines.

How the gain is predicted
    Low: copies vanish whose result is copied again at once, both where the second brings back the first order. Mid: so does
    half of the copies that are read by operators that take strides; high: all of those. Copies that are needed, and those
    that autograd makes in backward, stay.

How to fix
    Drop .contiguous() before operators that accept strides; use reshape instead of contiguous().view(); keep the layout that
    the next operator wants from the start.

When it is wrong
    What reads the copy is taken to be the next operator on the thread; a copy that is kept for later may be needed there.
    Kernels that need contiguous input copy for themselves.

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
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@rule("contiguous-copies", "KE012", "tensors are copied to make them contiguous", also=("contiguous", "transpose"))
def contiguous_copies(run: Run) -> Outcome:
    """Judge copies that only rearrange."""
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
        summary=f"Copies that only rearrange take {steady.share(avoidable)} of the step, "
        f"{counted(steady.per_step(len(calls)), 'copy')} in it",
        fix="# drop .contiguous() and .clone() where the next operator takes strides (matmul and attention do)",
        detail=f"{counted(steady.per_step(len(again)), 'copy')} undo each other or are copied again at once"
        if len(again)
        else None,
        change=Change(sure, (*sure, *scaled(run, perhaps, 0.5)), (*sure, *scaled(run, perhaps, 0.0))),
        evidence=(
            shown("avoidable copies", steady.per_step(len(calls)), "per step"),
            shown("of them undone or repeated", steady.per_step(len(again)), "per step"),
            shown("avoidable", seconds(avoidable), "s"),
            shown("all rearranging copies", seconds(everything), "s"),
        ),
        place=first_place(run, calls),
        confidence="modelled" if len(again) else "hint",
    )
