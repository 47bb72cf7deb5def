"""One step of a run, for tests that look at a step and not at the mean one."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL, FlopCount
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.analysis.views.kernels import DTYPE_CODES


def median_split(run: Run) -> Split:
    """The split of the median step."""
    return run.breakdown.steps[run.steps.median]


def flops_of(count: FlopCount, step: int, measure: int = MODEL, phase: int | None = None) -> int:
    """FLOP of one step under a measure, of one phase or all."""
    where = count.tally[step] if phase is None else count.tally[step, phase : phase + 1]
    return int(where[..., measure].sum())


def dtypes_of(count: FlopCount, step: int) -> dict[str | None, int]:
    """Model FLOP of one step by the dtype that they ran in."""
    totals = count.tally[step, :, :, MODEL].sum(axis=0).tolist()
    return {dtype: flops for dtype, flops in zip(DTYPE_CODES, totals, strict=True) if flops}
