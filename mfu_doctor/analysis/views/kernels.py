"""Class and dtype of every device operation.

Both are determined once per distinct (name, operator) pair: a trace has millions of kernels but only hundreds of names.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.kernel_names import KINDS, MATMUL_LIKE, dtype_of, kind_of
from mfu_doctor.analysis.names.op_names import kind_of_op
from mfu_doctor.analysis.views.activity import COMMUNICATION, COMPUTE, COPY, Activity
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.arrays.distinct import distinct, numbered
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.devices.dtypes import DTYPES, short_dtype
from mfu_doctor.trace import Trace

# Codes of `KernelTable.dtype`: 0 is unknown, the rest are short names.
DTYPE_CODES: tuple[str | None, ...] = (None, *DTYPES, "int8")
KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}
DTYPE_CODE = {dtype: code for code, dtype in enumerate(DTYPE_CODES)}
MATMUL_LIKE_CODES = tuple(KIND_CODE[kind] for kind in MATMUL_LIKE)

# Kinds that the owner may rename: work whose kernel name is generic belongs to what the program was doing.
_GENERIC = tuple(KIND_CODE[kind] for kind in ("elementwise", "reduction", "layout", "copy", "other"))


class KernelTable(Struct, frozen=True):
    """For each entry of `Activity`, shape (n,): code of its kind and of the dtype it computes in."""

    kind: npt.NDArray[np.uint8]  # index into KINDS
    dtype: npt.NDArray[np.uint8]  # index into DTYPE_CODES; 0: the trace does not say

    def kind_of(self, entry: int) -> str:
        """Kind of one entry."""
        return KINDS[int(self.kind[entry])]

    def dtype_of(self, entry: int) -> str | None:
        """Dtype of one entry, or None."""
        return DTYPE_CODES[int(self.dtype[entry])]

    def is_kind(self, *kinds: str) -> npt.NDArray[np.bool_]:
        """Mask of the entries of these kinds, shape (n,)."""
        return np.isin(self.kind, [KIND_CODE[kind] for kind in kinds])

    @property
    def matmul_like(self) -> npt.NDArray[np.bool_]:
        """Mask of the entries whose work is counted in FLOPs: matmul, convolution, attention; shape (n,)."""
        return np.isin(self.kind, MATMUL_LIKE_CODES)


def classify(trace: Trace, activity: Activity, launches: Launches, optimizer: Intervals) -> KernelTable:
    """Kind and dtype of each device operation, by its name and its operator.

    Args:
        trace: the trace.
        activity: its device work.
        launches: the operator that owns each entry.
        optimizer: the optimizer's own time on the host (`OptimizerSteps.own`).
    """
    names = trace.events.name
    own = names[activity.row].astype(np.int64)
    owner = np.where(launches.op >= 0, names[np.maximum(launches.op, 0)], -1).astype(np.int64)
    pairs, which = numbered(own * (len(trace.names) + 1) + owner + 1)
    decided = [_kind(trace, *divmod(int(p), len(trace.names) + 1), is_device=activity.is_device) for p in pairs]
    kind = np.array(decided, np.uint8)[which] if len(pairs) else np.empty(0, np.uint8)
    kind = np.where(activity.kind == COMMUNICATION, KIND_CODE["communication"], kind)
    kind = np.where(activity.kind == COPY, KIND_CODE["copy"], kind)
    in_optimizer = _in_optimizer(trace, launches, optimizer) & (activity.kind == COMPUTE)
    kind = np.where(in_optimizer & np.isin(kind, _GENERIC), KIND_CODE["optimizer"], kind)
    kind = kind.astype(np.uint8)
    by_name = np.where(np.isin(kind, MATMUL_LIKE_CODES) & activity.is_device, own, -1)
    return KernelTable(kind, _dtypes(trace, launches, by_name))


def _kind(trace: Trace, name: int, owner: int, *, is_device: bool) -> int:
    """Kind code of one (name id, 1 + owner's name id) pair."""
    op = kind_of_op(trace.names[owner - 1]) if owner else "other"
    if not is_device:
        return KIND_CODE[op]
    kind = kind_of(trace.names[name])
    if kind == "other" or (op == "embedding" and kind in ("elementwise", "reduction")):
        kind = op if op != "communication" else kind
    elif op == "optimizer" and kind in ("elementwise", "reduction"):
        kind = op
    return KIND_CODE[kind]


def _in_optimizer(trace: Trace, launches: Launches, own: Intervals) -> npt.NDArray[np.bool_]:
    """Whether each entry's operator began in the optimizer's own time (one thread runs both, so time decides)."""
    return (launches.op >= 0) & own.contains(trace.events.start[np.maximum(launches.op, 0)])


def _dtypes(trace: Trace, launches: Launches, name: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Dtype by kernel name (id; -1: not needed), else that of the operator's first float operand."""
    by_name = np.zeros(len(trace.names) + 1, np.uint8)  # the last one serves name == -1
    for index in distinct(name[name >= 0]).tolist():
        by_name[index] = DTYPE_CODE.get(dtype_of(trace.names[index]), 0)
    args = np.where(launches.op >= 0, trace.events.args[np.maximum(launches.op, 0)], -1)
    by_args = np.zeros(len(trace.args) + 1, np.uint8)  # the last one serves args == -1
    for index in distinct(args[args >= 0]).tolist():
        by_args[index] = DTYPE_CODE.get(operand_dtype(trace.args[index].types), 0)
    told = by_name[name]
    return np.where(told > 0, told, by_args[args]).astype(np.uint8)


def operand_dtype(types: tuple[str, ...] | None) -> str | None:
    """Short dtype of the first operand that has one ("Input type" of an operator), or None."""
    return next((short for t in types or () if (short := short_dtype(t)) is not None), None)
