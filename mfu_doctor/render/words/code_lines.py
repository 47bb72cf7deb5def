"""Functions of the user's code in which a step's time goes: which ones are shown first, and what stands beside them."""

from __future__ import annotations

from mfu_doctor import quantities
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import CodeLine

MOST = 3  # on the first screen
_WORTH = 0.05  # of the step; a shorter line is in the table of all


def title(report: Report) -> str:
    """What the table of them is called."""
    return (
        f"Your code: computing by function{'' if report.forward_only else ', with backward where the trace links it'}"
    )


def first_lines(report: Report) -> tuple[CodeLine, ...]:
    """The few lines that the first screen names."""
    return tuple(row for row in report.code_lines[:MOST] if row.share >= _WORTH)


def rate(row: CodeLine) -> str:
    """How far the line is from the peak, if that is known: "34 % of peak"."""
    return "" if row.peak_share is None else f"{quantities.percent(row.peak_share, 0)} of peak"
