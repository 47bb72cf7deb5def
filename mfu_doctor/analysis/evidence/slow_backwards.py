"""Depthwise convolutions on a CPU whose backward takes many times their forward, though it computes only twice as much.

Backward is two products as large as that of forward: the gradient of the input and that of the weights. Of windows larger than
3 x 3, oneDNN has no fast kernel for them while the channels come first in memory.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import owner_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.trace import EventArgs

_Layer: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

_EITHER = re.compile(r"^aten::convolution(_backward)?$")
_BACKWARD = re.compile(r"^aten::convolution_backward$")
# Backward of usual layers took 1.9 to 3.3 times their forward, that of depthwise ones with windows of 5 x 5 to 9 x 9 took 5.5 to
# 35 times (torch 2.13, AVX-512).
_FAR_MORE = 5.0
_AXES = 4  # of an image: `channels_last` takes no others
_TRANSPOSED = 6  # argument of forward; where they are transposed, how much the layout gives depends on the size
_FALSE = ("False", "0", "")


class SlowBackwards(Struct, frozen=True):
    """The calls of backward that take far longer than they should.

    Attributes:
        rows: forward calls of their layers, all steps, shape (k,).
        entries: the device work of the slow calls, shape (n,).
        times: how many times as long as their forward they take.
        longest: row of the call that takes longest.
    """

    rows: Rows
    entries: Mask
    times: float
    longest: int


def slow_backwards_of(run: Run) -> SlowBackwards | None:
    """The slow calls of depthwise layers with the channels first; None if there are none, or if shapes do not tell."""
    if not run.is_cpu:
        return None
    calls, which = numbered(owner_of(run, _EITHER))
    took = np.bincount(which, run.unrecorded_ns, minlength=len(calls))
    is_backward = np.isin(calls, rows_matching(run.trace, _BACKWARD, calls[calls >= 0]))
    told = [run.trace.args_of(row) if row >= 0 else None for row in calls.tolist()]
    layers = [_layer(args, int(back)) for args, back in zip(told, is_backward, strict=True)]
    forward: dict[_Layer, list[float]] = {}
    for layer, ns, back in zip(layers, took.tolist(), is_backward.tolist(), strict=True):
        if layer is not None and not back:
            forward.setdefault(layer, []).append(ns)
    usual = {layer: float(np.median(times)) for layer, times in forward.items()}
    ahead = np.array([np.nan if layer is None else usual.get(layer, np.nan) for layer in layers])
    first = np.array([_channels_first(args) for args in told], np.bool_)
    slow = is_backward & first & (took > _FAR_MORE * ahead)
    if not slow.any():
        return None
    theirs = {layer for layer, one in zip(layers, slow, strict=True) if one}
    made = ~is_backward & np.array([layer in theirs for layer in layers], np.bool_)
    longest = int(calls[np.argmax(np.where(slow, took, 0.0))])
    return SlowBackwards(calls[made], slow[which], float(took[slow].sum() / ahead[slow].sum()), longest)


def _layer(args: EventArgs | None, first: int) -> _Layer | None:
    """Shapes of input and weight, which begin at this argument, of a depthwise layer; None for others, and if not recorded."""
    image, weight = (args.shape(first), args.shape(first + 1)) if args is not None else (None, None)
    if args is None or image is None or weight is None or len(image) != _AXES or len(weight) != _AXES:
        return None
    told = args.concrete or ()
    if len(told) > _TRANSPOSED + first and told[_TRANSPOSED + first] not in _FALSE:
        return None
    return (image, weight) if weight[1] == 1 < image[1] else None


def _channels_first(args: EventArgs | None) -> bool:
    """Whether the input of a backward call has the channels before the pixels in memory."""
    if args is None or args.strides is None or len(args.strides) <= 1:
        return False
    strides = [stride for stride in args.strides[1] if isinstance(stride, int)]
    return len(strides) == _AXES and strides[-1] == 1 < strides[1]
