"""Tensors are copied only to put their elements into another order.

What it measures
    The device work of contiguous() and clone().

Why it costs
    A copy reads and writes the whole tensor and computes nothing.

How the gain is predicted
    A quarter (low), half (mid) or all (high) of these copies vanish: which of them are needed only the program knows.

How to fix
    Drop .contiguous() before operators that accept strides; use reshape instead of contiguous().view(); choose the layout
    in which the next operator wants its input.

When it is wrong
    Kernels that need contiguous input copy for themselves, and slower.

References
    https://pytorch.org/docs/stable/tensor_view.html
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.edits import Change
from mfu_doctor.analysis.ownership import calls_of, device_ns, first_place, scaled, work_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.phrasing import counted, share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

_COPYING = re.compile(r"^aten::(contiguous|clone)$")
# One copy per attention block is common and cheap.
SEEN_SHARE = 0.02
_AVOIDED = (0.75, 0.5, 0.0)  # what stays: a copy is often needed, and which one only the program knows


@rule("contiguous-copies", "KE012", "tensors are copied to make them contiguous")
def contiguous_copies(run: Run) -> Outcome:
    """Judge copies that only rearrange."""
    steady = steady_of(run)
    mask = work_of(run, _COPYING)
    spent = device_ns(run, steady, mask)
    if spent < SEEN_SHARE * steady.step_ns:
        return None
    calls = steady.issued(run, calls_of(run, _COPYING))
    return Finding(
        summary=f"{counted(steady.per_step(len(calls)), 'copy')} that only rearrange take {share(spent, steady.step_ns)} "
        "of the step",
        fix="# drop .contiguous() and .clone() where the next operator takes strides (matmul and attention do)",
        change=Change(*(scaled(run, mask, left) for left in _AVOIDED)),
        evidence=(shown("copies", steady.per_step(len(calls)), "per step"), shown("device time", seconds(spent), "s")),
        place=first_place(run, calls),
        confidence="hint",
    )
