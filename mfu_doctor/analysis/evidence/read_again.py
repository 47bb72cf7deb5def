"""Whether something else reads a tensor as well: what one of its readers could do without has to be made all the same."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from mfu_doctor.analysis.evidence.attribution import shapes_of
from mfu_doctor.analysis.evidence.steady_steps import Rows
from mfu_doctor.analysis.run import Run

_REACH = 64  # calls: a layer has fewer


def is_read_again(run: Run, calls: Rows, elements: int, makes: Callable[[int], bool]) -> bool:
    """Whether a call reads so many elements before one makes as many anew.

    A trace tells sizes and not which tensor it was, so that another tensor of this size counts as well.

    Args:
        run: the run.
        calls: the calls after those that are known to read it, in time order.
        elements: its size.
        makes: whether a call makes such a tensor anew.
    """
    for row in calls[:_REACH].tolist():
        if makes(row):
            return False
        if any(prod(shape) == elements for shape in shapes_of(run, row)):
            return True
    return False
