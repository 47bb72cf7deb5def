"""What a compiled backward pass computes again: those of its calls that the forward pass of the same function has made.

Compiled code records nothing for autograd, so its calls carry no number that tells them apart (see `counted_ops`). But:

- An operator whose gradient is an operator of its own (fused attention, a convolution, an LSTM) is no gradient.
- A product of two matrices is one of the forward pass if both have the same shapes and strides as there: in each of the two
  gradients of a product one factor is transposed.
- In batches of products (attention by hand) a gradient can look like a forward product. A product has two gradients at most,
  so what is more than that is computed again.

Products of the second kind count only in a pass that computes something again for certain: where a program multiplies with a
square matrix and with its transpose, a gradient of one looks like the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.flops.attention import ATTENTION
from mfu_doctor.flops.convolution import CONVOLUTION
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.recurrent import RECURRENT
from mfu_doctor.trace import EventArgs, Trace

Rows: TypeAlias = npt.NDArray[np.int64]
Matrices: TypeAlias = tuple[tuple[int, ...], ...]  # shapes and strides of both
Size: TypeAlias = tuple[
    int, tuple[int, ...]
]  # batch, and M, N and K in any order: a product and its gradients have the same

# The name of torch's autograd.Function around a compiled function; with it a node and a call of the forward pass share a number.
_FORWARD, _BACKWARD = "CompiledFunction", "CompiledFunctionBackward"
_OWN_GRADIENT = frozenset(ATTENTION) | frozenset(CONVOLUTION) | frozenset(RECURRENT)
# Where the first of the two matrices stands.
_FIRST = {
    "aten::mm": 0,
    "aten::_int_mm": 0,
    "aten::_scaled_mm": 0,
    "aten::bmm": 0,
    "aten::addmm": 1,
    "aten::_addmm_activation": 1,
    "aten::baddbmm": 1,
}
_GRADIENTS = 2  # of a product


class Call(Struct, frozen=True):
    """A counted call.

    Attributes:
        at: its index among them.
        name: of the operator.
        cost: its FLOPs.
        args: as recorded.
    """

    at: int
    name: str
    cost: OpFlops
    args: EventArgs | None

    @property
    def matrices(self) -> Matrices | None:
        """What it multiplies; None if that is no product of matrices, or was not recorded."""
        first = _FIRST.get(self.name)
        if first is None or self.args is None or self.args.dims is None or self.args.strides is None:
            return None
        both = slice(first, first + 2)
        return tuple(tuple(map(int, flat)) for flat in (*self.args.dims[both], *self.args.strides[both]))  # type: ignore[arg-type]

    @property
    def size(self) -> Size | None:
        """Of the product; None without one."""
        return None if self.cost.gemm is None else (self.cost.gemm[0], tuple(sorted(self.cost.gemm[1:])))

    @property
    def in_batches(self) -> bool:
        """Whether it is many products at once."""
        return self.cost.gemm is not None and self.cost.gemm[0] > 1

    @property
    def has_bias(self) -> bool:
        """Whether it adds a vector to each row, as no gradient does."""
        return _FIRST.get(self.name) == 1 and self.args is not None and len((self.args.dims or ((),))[0]) == 1


def compiled_recompute(
    trace: Trace, tree: OpTree, rows: Rows, costs: Sequence[OpFlops], cost: Rows
) -> npt.NDArray[np.bool_]:
    """Which of these counted calls a compiled backward pass makes again, shape of `rows`.

    Args:
        trace: the trace.
        tree: nesting of its operators.
        rows: event rows of the calls.
        costs: the distinct costs.
        cost: index of each call's cost.
    """
    found = np.zeros(len(rows), np.bool_)
    passes = _within(trace, tree, rows, _BACKWARD)
    if not (passes >= 0).any():
        return found
    calls = [
        Call(at, trace.name_of(row), costs[which], trace.args_of(row))
        for at, (row, which) in enumerate(zip(rows.tolist(), cost.tolist(), strict=True))
    ]
    forward: defaultdict[int, list[Call]] = defaultdict(list)
    for at, region in enumerate(_within(trace, tree, rows, _FORWARD).tolist()):
        if region >= 0 and passes[at] < 0:
            forward[int(trace.events.sequence[region])].append(calls[at])
    for node in distinct(passes[passes >= 0]).tolist():
        before = forward.get(int(trace.events.sequence[node]))
        if before:
            mine = [calls[at] for at in np.flatnonzero(passes == node).tolist()]
            found[[call.at for call in _again(before, mine)]] = True
    return found


def _again(forward: Sequence[Call], backward: Sequence[Call]) -> list[Call]:
    """The calls of a backward pass that its forward pass has made."""
    alike = _alike(forward, backward)
    no_gradient = [call for call in backward if call.name in _OWN_GRADIENT and not call.cost.backward]
    surplus = _surplus(forward, backward)
    certain = bool(no_gradient or surplus) or any(call.has_bias for call in alike)
    if not certain:
        return []
    again = [*no_gradient, *(call for call in alike if not call.in_batches)]
    for call in alike:
        if call.in_batches and call.size is not None and surplus[call.size] > 0:
            surplus[call.size] -= 1
            again.append(call)
    return again


def _alike(forward: Iterable[Call], backward: Iterable[Call]) -> list[Call]:
    """Products of the backward pass like one of the forward pass, each of those once."""
    left = Counter(call.matrices for call in forward)
    alike = []
    for call in backward:
        if call.matrices is not None and left[call.matrices] > 0:
            left[call.matrices] -= 1
            alike.append(call)
    return alike


def _surplus(forward: Iterable[Call], backward: Iterable[Call]) -> Counter[Size]:
    """How many products of each size are more than gradients."""
    counted = Counter(call.size for call in backward if call.size is not None and call.matrices is not None)
    needed = Counter(call.size for call in forward if call.size is not None)
    more = {size: number - _GRADIENTS * needed[size] for size, number in counted.items()}
    return Counter({size: number for size, number in more.items() if number > 0 and needed[size]})


def _within(trace: Trace, tree: OpTree, rows: Rows, name: str) -> Rows:
    """The event of this name around each row, -1 without one."""
    wanted = np.append(np.isin(trace.events.name, trace.name_ids(frozenset({name}))), False)
    up = tree.parent[rows].astype(np.int64)
    while (climbing := (up >= 0) & ~wanted[up]).any():
        up[climbing] = tree.parent[up[climbing]]
    return up
