"""Work in float64: which device work computes in it, and which operator brought it into the program."""

from __future__ import annotations

import re
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import Mask
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.trace import Category, EventArgs

_COPY = re.compile(r"^aten::copy_$")
_FP64 = "fp64"


class DoublePrecision(Struct, frozen=True):
    """Device work in float64.

    Attributes:
        entries: mask of its entries in the activity table, shape (n,).
        casts: those of them that only convert from or to another float dtype.
        origin: row of the largest operator of the forward pass that converts to float64; None if nothing does.
        is_model: whether a matmul or a convolution has both operands in float64: weights are.
    """

    entries: Mask
    casts: Mask
    origin: int | None
    is_model: bool


def double_precision_of(run: Run) -> DoublePrecision | None:
    """Work in float64, or None if there is none or if no dtype is recorded."""
    # The last one serves -1: unknown.
    told = np.array([*(_is_double(args) for args in run.trace.args), False], np.bool_)
    casting = np.array([*(_casts(args) != 0 for args in run.trace.args), False], np.bool_)
    args = np.where(run.launches.op >= 0, run.trace.events.args[np.maximum(run.launches.op, 0)], -1)
    products = run.kernels.matmul_like & (run.kernels.dtype == DTYPE_CODE[_FP64])
    entries = (told[args] | products) & (run.activity.kind != COMMUNICATION)
    if not entries.any():
        return None
    copies = np.zeros(len(run.trace.names) + 1, np.bool_)
    copies[[i for i, name in enumerate(run.trace.names) if _COPY.match(name)]] = True
    op = run.launches.op
    casts = entries & casting[args] & (op >= 0) & copies[run.trace.events.name[np.maximum(op, 0)]]
    return DoublePrecision(entries, casts, _origin(run), bool((products & (run.activity.kind != COMMUNICATION)).any()))


def _sizes(args: EventArgs) -> list[tuple[int, str | None]]:
    """Elements and dtype of each tensor argument; numbers, which torch records as tensors without dimensions, are left out."""
    shapes = [(args.shape(i), args.type_of(i)) for i in range(len(args.dims or ()))]
    return [(prod(shape), kind) for shape, kind in shapes if shape is not None]


def _has_double(args: EventArgs) -> bool:
    return any(short_dtype(kind) == _FP64 for kind in args.types or ())


def _is_double(args: EventArgs) -> bool:
    """Whether the largest tensor argument, or one of equal size, is in float64."""
    if not _has_double(args):
        return False
    sizes = _sizes(args)
    most = max((size for size, _ in sizes), default=0)
    return any(size == most and short_dtype(kind) == _FP64 for size, kind in sizes)


def _casts(args: EventArgs) -> int:
    """Elements that `copy_(to, from)` converts between float64 and another float dtype: positive to float64, else negative."""
    if not _has_double(args):
        return 0
    sizes = _sizes(args)
    if len(sizes) < 2:
        return 0
    to, source = (short_dtype(kind) for _, kind in sizes[:2])
    if to is None or source is None or (to == _FP64) == (source == _FP64):
        return 0
    return sizes[0][0] if to == _FP64 else -sizes[0][0]


def _origin(run: Run) -> int | None:
    """The operator of the forward pass that converts most elements to float64."""
    rows = rows_matching(run.trace, _COPY, run.trace.rows(Category.CPU_OP))
    rows = rows[~in_backward(run, rows)]
    made = np.array([*(max(_made(args), 0) for args in run.trace.args), 0], np.int64)
    size: npt.NDArray[np.int64] = made[run.trace.events.args[rows]]
    return int(rows[np.argmax(size)]) if len(rows) and size.max() > 0 else None


def _made(args: EventArgs) -> int:
    """Elements of float64 that `copy_(to, from)` makes from any other dtype."""
    sizes = _sizes(args)
    if len(sizes) < 2 or short_dtype(sizes[0][1]) != _FP64 or short_dtype(sizes[1][1]) == _FP64:
        return 0
    return sizes[0][0]
