"""The padding of a batch, and the work that it takes: what forward and backward do grows with the length of a batch.

profile() looks at the data that the model reads first, in the step with shapes. Of an axis in which every sample ends
(or begins) with padding, the longest sample tells how much of it no sample needs.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import owner_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import PaddedInput
from mfu_doctor.trace import EventArgs

_PAIRS = 2  # attention is between pairs of places
# work on parameters, whatever the batch
_PARAMETERS = re.compile(
    r"^(aten::(_foreach_\w+|embedding_dense_backward|_fused_adam\w*)|Optimizer\..*|torch::autograd::AccumulateGrad)$"
)
# Share of an axis that is worth a word: of tokens, and of real numbers, since images and sounds may have a border by nature.
_LEAST, _BORDER = 0.1, 0.25


class Padding(Struct, frozen=True):
    """The padding of a run's batches.

    Attributes:
        told: the input that tells it.
        least: part of what each entry of the activity table computes that no sample of a batch needs, shape (n,).
        mean: the same with batches of samples of one length.
    """

    told: PaddedInput
    least: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]


def padding_of(run: Run) -> Padding | None:
    """The padding; None if the longest samples fill their batches, or if batches were not looked at."""
    told = (run.facts.padded or ()) if run.facts is not None else ()
    padded = [one for one in told if one.least >= (_LEAST if one.whole else _BORDER)]
    if not padded:
        return None
    # of several inputs (a source and a target) the one with the least padding promises no more than any
    one = min(padded, key=lambda each: each.least)
    length, samples = one.dims[one.axis], one.dims[0]
    # where other inputs have no padding, only what has an axis of this length is known to grow with it
    others = len(padded) < len(told)
    power = _powers(run, length, samples, strict=others)
    return Padding(one, 1 - (1 - one.least) ** power, 1 - (1 - one.mean) ** power)


def _powers(run: Run, length: int, samples: int, *, strict: bool) -> npt.NDArray[np.float64]:
    """With which power of the length the time of each entry grows: 0, 1, or 2 between pairs of places; shape (n,).

    `strict`: only where a shape says so; else all that is no work on parameters alone, since a layer that goes from place to
    place has operators without this axis.
    """
    ops, which = np.unique(run.launches.op, return_inverse=True)
    power = np.array([_power(run.trace.args_of(op) if op >= 0 else None, length, samples) for op in ops.tolist()])
    on_parameters = owner_of(run, _PARAMETERS) >= 0
    on_parameters |= run.optimizer_steps.own.contains(run.activity.start)
    return np.where(on_parameters, 0, (power if strict else np.maximum(power, 1))[which]).astype(np.float64)


def _power(args: EventArgs | None, length: int, samples: int) -> int:
    """The most that the shapes of an operator say."""
    shapes = [shape for shape in (args.dims if args is not None else None) or () if shape]
    return max((_times(shape, length, samples) for shape in shapes if isinstance(shape[0], int)), default=0)


def _times(shape: tuple[object, ...], length: int, samples: int) -> int:
    """How many axes of a shape are of this length; an axis of all places of all samples is one."""
    flat = sum(isinstance(size, int) and size > 0 and size % (length * samples) == 0 for size in shape)
    return min(sum(size == length for size in shape) + (flat > 0), _PAIRS)
