"""What a compiled backward pass computes again: those of its calls that the forward pass of the same function has made.

Compiled code records nothing for autograd, so its calls carry no number that tells them apart (see `counted_ops`). But:

- An operator whose gradient is an operator of its own (fused attention, a convolution, an LSTM) is no gradient.
- A product of two matrices is one of the forward pass if both have the same shapes and strides as there: in each of the two
  gradients of a product one factor is transposed.
- In batches of products (attention by hand) a gradient can look like a forward product, and so it can where a program multiplies
  with a square matrix and with its transpose: then one occurs more often than the forward pass has made it. A product has two
  gradients at most, so what is more than that is computed again.

Products of the second kind count only in a pass that computes something again for certain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.utilization.input_gradients import is_made, node_calls
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.arrays.distinct import distinct, numbered_together
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


class Kind(Struct, frozen=True):
    """What calls of one operator with equal arguments have in common.

    Attributes:
        no_gradient: whether its gradient is an operator of its own, and this is not it.
        matrices: what it multiplies; None if that is no product of matrices, or was not recorded.
        size: of the product; None without one.
        in_batches: whether it is many products at once.
        has_bias: whether it adds a vector to each row, as no gradient does.
    """

    no_gradient: bool
    matrices: Matrices | None
    size: Size | None
    in_batches: bool
    has_bias: bool

    @classmethod
    def of(cls, name: str, cost: OpFlops, args: EventArgs | None) -> Kind:
        """The kind of a call with this cost and these arguments."""
        gemm, dims = cost.gemm, None if args is None else args.dims
        return cls(
            no_gradient=name in _OWN_GRADIENT and not cost.backward,
            matrices=None if args is None else _matrices(name, args),
            size=None if gemm is None else (gemm[0], tuple(sorted(gemm[1:]))),
            in_batches=gemm is not None and gemm[0] > 1,
            has_bias=_FIRST.get(name) == 1 and dims is not None and len((dims or ((),))[0]) == 1,
        )


class Call(NamedTuple):
    """A counted call: its index among them, and its kind."""

    at: int
    kind: Kind


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
    compiled = np.where(passes >= 0, passes, _within(trace, tree, rows, _FORWARD))
    inside = np.flatnonzero(compiled >= 0)
    calls: defaultdict[int, list[Call]] = defaultdict(list)  # by the event around them
    for call, around in zip(_calls(trace, rows, costs, cost, inside), compiled[inside].tolist(), strict=True):
        calls[around].append(call)
    forward: defaultdict[int, list[Call]] = defaultdict(list)  # by the number of the function
    nodes = set(distinct(passes[passes >= 0]).tolist())
    for around, made in calls.items():
        if around not in nodes:
            forward[int(trace.events.sequence[around])] += made
    nodes_called = node_calls(trace)
    for node in nodes:
        before = forward.get(int(trace.events.sequence[node]))
        if before:
            again = _again(before, calls[node], of_data=not is_made(trace, node, nodes_called))
            found[[call.at for call in again]] = True
    return found


def _calls(trace: Trace, rows: Rows, costs: Sequence[OpFlops], cost: Rows, inside: Rows) -> list[Call]:
    """Those of the counted calls that are inside of compiled functions."""
    events, mine = trace.events, rows[inside]
    first, which = numbered_together(events.name[mine], events.args[mine], cost[inside])
    kinds = [
        Kind.of(trace.name_of(row), costs[of], trace.args_of(row))
        for row, of in zip(mine[first].tolist(), cost[inside][first].tolist(), strict=True)
    ]
    return [Call(at, kinds[kind]) for at, kind in zip(inside.tolist(), which.tolist(), strict=True)]


def _matrices(name: str, args: EventArgs) -> Matrices | None:
    first = _FIRST.get(name)
    if first is None or args.dims is None or args.strides is None:
        return None
    both = slice(first, first + 2)
    return tuple(tuple(map(int, flat)) for flat in (*args.dims[both], *args.strides[both]))  # type: ignore[arg-type]


def _again(forward: Sequence[Call], backward: Sequence[Call], *, of_data: bool) -> list[Call]:
    """The calls of a backward pass that its forward pass has made.

    Args:
        forward: calls of the forward pass, in time order.
        backward: likewise.
        of_data: whether nobody asks for the gradient of the function's input.
    """
    alike = _alike(forward, backward)
    no_gradient = [call for call in backward if call.kind.no_gradient]
    surplus = _surplus(forward, backward)
    if not (no_gradient or +surplus or any(call.kind.has_bias for call in alike)):
        return []
    if of_data:  # then the first product has one gradient less
        surplus[next((call.kind.size for call in forward if call.kind.size is not None), None)] += 1
    unsure = _sizes_of_gradients_alike(forward, backward)
    again = no_gradient
    for call in sorted(alike, key=lambda call: not call.kind.has_bias):  # it takes its part of the surplus first
        kind = call.kind
        if kind.has_bias or not (kind.in_batches or kind.size in unsure) or surplus[kind.size] > 0:
            surplus[kind.size] -= 1
            again.append(call)
    return again


def _alike(forward: Iterable[Call], backward: Iterable[Call]) -> list[Call]:
    """Products of the backward pass like one of the forward pass, each of those once."""
    left = Counter(call.kind.matrices for call in forward)
    alike = []
    for call in backward:
        if call.kind.matrices is not None and left[call.kind.matrices] > 0:
            left[call.kind.matrices] -= 1
            alike.append(call)
    return alike


def _surplus(forward: Iterable[Call], backward: Iterable[Call]) -> Counter[Size | None]:
    """How many products of each size of the forward pass are more than gradients; below 0 where some have not both."""
    made = Counter(call.kind.size for call in forward if call.kind.size is not None)
    later = Counter(call.kind.size for call in backward if call.kind.matrices is not None)
    return Counter({size: later[size] - _GRADIENTS * number for size, number in made.items()})


def _sizes_of_gradients_alike(forward: Iterable[Call], backward: Iterable[Call]) -> set[Size | None]:
    """Sizes of which some gradient looks like a product of the forward pass: one occurs more often than it can be made again."""
    made = Counter(call.kind.matrices for call in forward)
    later = Counter((call.kind.matrices, call.kind.size) for call in backward if call.kind.matrices is not None)
    return {size for (matrices, size), number in later.items() if 0 < made[matrices] < number}


def _within(trace: Trace, tree: OpTree, rows: Rows, name: str) -> Rows:
    """The event of this name around each row, -1 without one."""
    wanted = np.append(trace.named(trace.name_ids(frozenset({name}))), False)
    up = tree.parent[rows].astype(np.int64)
    while (climbing := (up >= 0) & ~wanted[up]).any():
        up[climbing] = tree.parent[up[climbing]]
    return up
