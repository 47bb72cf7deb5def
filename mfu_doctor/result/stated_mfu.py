"""Which calculated MFU is stated, and which is not: above 100 %, or an interval too wide to say anything.

An MFU above 100 % cannot be: its peak, its FLOPs or its time is wrong. And "0.26-80.7 %" is no result: whoever reads the first
number alone is misled. Both are unknown, with the reason; `Mfu.calculated` keeps the number.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.quantities import percent
from mfu_doctor.result.run import Mfu

# Ends further apart than this factor leave most of MFU unknown: more work can be missing than was counted.
WIDE = 2.0
LOWER_BOUND = "MFU is a lower bound"
NOT_STATED = "is not stated"  # in the note on a variant above 100 %
_OTHER_DTYPE = "a kernel computes in another dtype than its name or its operands tell"


def as_stated(mfu: Mfu, *, cause: str, unknown: str = "the FLOPs of a part of the work are unknown") -> Mfu:
    """The MFU as a report states it.

    Args:
        mfu: as it was calculated.
        cause: what is probably wrong if it is above 100 %.
        unknown: what is not counted if it is an interval.
    """
    if mfu.value is not None and mfu.value > 1:
        reason = f"{percent(mfu.value)} is calculated, which cannot be: {cause}"
        mfu = replace(mfu, value=None, upper=None, calculated=mfu.value, reason=reason, notes=_without_bounds(mfu))
    mfu = _possible(mfu, cause)
    if mfu.upper is None or mfu.value is None or mfu.upper <= WIDE * mfu.value:
        return mfu
    ends = f"{percent(mfu.value)} to {percent(mfu.upper)}"
    reason = f"{unknown}: all that is known is {ends}; pass --model-flops"
    return replace(
        mfu,
        value=None,
        calculated=mfu.value,
        hfu=None,
        causal=None,
        by_dtype=None,
        reason=reason,
        notes=_without_bounds(mfu),
    )


def _possible(mfu: Mfu, cause: str) -> Mfu:
    """The MFU without its variants above 100 %; a note on each, unless the MFU itself has the same cause."""
    variants = (
        ("HFU", mfu.hfu, cause),
        ("causal MFU", mfu.causal, cause),
        ("MFU by each kernel's dtype", mfu.by_dtype, _OTHER_DTYPE),
    )
    kept = [value if value is not None and value <= 1 else None for _, value, _ in variants]
    notes = [
        f"{name} {NOT_STATED}: {percent(value)} is calculated, which cannot be: {why}"
        for name, value, why in variants
        if value is not None and value > 1 and mfu.value is not None
    ]
    # A formula such as 6ND can count work that this run does not do (an embedding): its FLOPs stay, and no MFU of them.
    conventions = tuple(replace(c, mfu=None) if c.mfu is not None and c.mfu > 1 else c for c in mfu.conventions)
    told = (*mfu.notes, *notes)
    return replace(mfu, hfu=kept[0], causal=kept[1], by_dtype=kept[2], conventions=conventions, notes=told)


def peak_share(kind: str, achieved: float | None, peak: float | None) -> float | None:
    """What kernels of a kind reach of a peak, both in FLOP/s; None if either is unknown, or if it cannot be.

    Only convolutions exceed 100 %: their FLOPs are those of the direct algorithm, and Winograd or FFT need fewer.
    """
    share = achieved / peak if achieved and peak else None
    return share if share is None or share <= 1 or kind == "convolution" else None


def _without_bounds(mfu: Mfu) -> tuple[str, ...]:
    """The notes without those on an MFU that is not stated."""
    return tuple(note for note in mfu.notes if not note.startswith(LOWER_BOUND))
