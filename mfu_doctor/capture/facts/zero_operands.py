"""How many zeros are in the constant operands of products: matrices that no gradient flows into, and that are no parameters.

Such an operand is an input: the adjacency matrix of a batch of graphs, a one-hot matrix, a bag of words, a selection of rows. The
node of autograd has saved it for the gradient of the other operand.

Zeros are counted in steps that are not recorded, since a count is work of its own. A device is only asked to count: the program
does not wait for the answer. The numbers of the nodes are read in the recorded step. Nothing of the program's is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.facts.answers import read_answers
from mfu_doctor.capture.facts.saved_tensors import saved_tensor
from mfu_doctor.facts.wasted_work import SparseOperand

_FEWEST_ELEMENTS = 1 << 14  # a product with a smaller matrix takes microseconds
_MOST_ELEMENTS = 1 << 28  # of all counts together: one count reads a matrix once, as each product with it does
_MOST_COUNTS = 256  # each is a few numbers in the memory of the device

# Of a node: the position of each factor among its inputs, the name under which it is saved, and its axis that is summed over.
_FACTORS = {
    "MmBackward0": ((0, "_raw_saved_self", -1), (1, "_raw_saved_mat2", -2)),
    "BmmBackward0": ((0, "_raw_saved_self", -1), (1, "_raw_saved_mat2", -2)),
    "AddmmBackward0": ((1, "_raw_saved_mat1", -1), (2, "_raw_saved_mat2", -2)),
    "BaddbmmBackward0": ((1, "_raw_saved_batch1", -1), (2, "_raw_saved_batch2", -2)),
}
# Nodes between a parameter and a product with it.
_VIEWS = ("TBackward0", "TransposeBackward0", "ToCopyBackward0")
_PARAMETER = "AccumulateGrad"

_Position = tuple[int, int]  # constant operands of a pass, and the place of one among them


class _Constant(Struct, frozen=True):
    """A constant operand of one pass."""

    node: Any
    matrix: Any
    summed: int
    with_parameter: bool


class _Product(Struct):
    """The products of one position in their backward passes."""

    counts: list[int] = field(default_factory=list)  # of the passes that were counted: places in the list of all counts
    sequence: set[int] = field(default_factory=set)  # of the passes that were recorded
    dims: tuple[int, ...] = ()  # of the operand in the last of them
    with_parameter: bool = False


class ZeroCounts(Struct):
    """Counts over a few backward passes."""

    _products: dict[_Position, _Product] = field(default_factory=dict)
    # Of each count: elements, and a tensor of ours with the non-zeros of all, and the most and the fewest of a sum.
    _counts: list[tuple[int, Any]] = field(default_factory=list)
    _left: int = _MOST_ELEMENTS

    def begins(self, nodes: Sequence[Any], recorded: bool) -> None:
        """A pass begins through these nodes, in a step that is recorded or not."""
        constants = [one for node in nodes if (one := _constant(node)) is not None]
        counted: dict[tuple[Any, ...], int | None] = {}  # several layers may multiply by the same matrix
        for position, one in enumerate(constants):
            product = self._products.setdefault((len(constants), position), _Product())
            product.with_parameter = one.with_parameter
            if recorded:
                product.sequence.add(int(one.node._sequence_nr()))  # noqa: SLF001 - no public name exists
                product.dims = tuple(one.matrix.shape)
                continue
            key = one.matrix.data_ptr(), one.matrix.shape, one.matrix.stride(), one.summed
            if key not in counted:
                counted[key] = self._count(one)
            if (at := counted[key]) is not None:
                product.counts.append(at)

    def found(self) -> tuple[SparseOperand, ...] | None:
        """The operands with zeros, if any product was both counted and recorded, else None. Waits for the device."""
        known = [product for product in self._products.values() if product.counts and product.sequence]
        if not known:
            return None
        counts = [(elements, *told) for (elements, _), told in zip(self._counts, self._read(), strict=True)]
        told = (_told(product, [counts[at] for at in product.counts]) for product in known)
        return tuple(one for one in told if one.nonzero < 1)

    def _read(self) -> list[list[float]]:
        return read_answers([asked for _, asked in self._counts])

    def _count(self, one: _Constant) -> int | None:
        """Ask for the non-zeros of a matrix: the place of the answer, or None if there were enough."""
        import torch

        matrix = _each_once(one.matrix)
        elements = int(matrix.numel())
        if elements > self._left or len(self._counts) >= _MOST_COUNTS:
            return None
        self._left -= elements
        with torch.no_grad():
            # the norm of order 0 counts in one pass, without a mask in memory
            wide = torch.float64 if matrix.dtype is torch.float64 else torch.float32
            each = torch.linalg.vector_norm(matrix, 0, dim=one.summed, dtype=wide)
            self._counts.append((elements, torch.stack((each.sum(), each.amax(), each.amin()))))
        return len(self._counts) - 1


def _constant(node: Any) -> _Constant | None:
    """The constant operand of a product, if this node is one's; None if both get gradients, or it is small or a parameter."""
    factors = _FACTORS.get(node.name(), ())
    inputs = node.next_functions
    without = [factor for factor in factors if inputs[factor[0]][0] is None]
    if len(without) != 1:
        return None
    position, name, summed = without[0]
    matrix = saved_tensor(node, name)
    if matrix is None or matrix.numel() < _FEWEST_ELEMENTS or matrix.is_complex() or _is_parameter(matrix):
        return None
    (other,) = (inputs[at][0] for at, *_ in factors if at != position)
    return _Constant(node, matrix, summed, any(one.name().endswith(_PARAMETER) for one in _seen_through(other)))


def _seen_through(node: Any) -> Iterator[Any]:
    """This node, and those behind it that only look at a tensor in another way."""
    yield node
    while node.name() in _VIEWS and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
        yield node


def _is_parameter(matrix: Any) -> bool:
    from torch.nn import Parameter

    return isinstance(matrix, Parameter) or isinstance(matrix._base, Parameter)  # noqa: SLF001 - no public name exists


def _each_once(matrix: Any) -> Any:
    """A matrix without the copies that broadcasting shows of it."""
    for axis, stride in enumerate(matrix.stride()):
        matrix = matrix.narrow(axis, 0, 1) if stride == 0 else matrix
    return matrix


def _told(product: _Product, counts: list[tuple[float, ...]]) -> SparseOperand:
    """What is told of a product; `counts`: elements, non-zeros, and the most and the fewest of a sum."""
    return SparseOperand(
        dims=product.dims,
        nonzero=max(nonzeros / elements for elements, nonzeros, *_ in counts),
        one_each=all(most == fewest == 1 for _, _, most, fewest in counts),
        with_parameter=product.with_parameter,
        sequence=tuple(sorted(product.sequence)),
    )
