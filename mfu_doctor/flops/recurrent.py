"""FLOPs of recurrent layers: every token is multiplied with every weight matrix once forward, twice backward.

Backward has one product less for the first layer's input if nobody asks for its gradient, as is usual for what a loader brings.
oneDNN and cuDNN compute it all the same; that is no work of the model, and no recomputation either, so it is not counted at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

from msgspec.structs import replace

from mfu_doctor.flops.call import Call, Operand
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.operators import Formula, Operator, operator

Weights: TypeAlias = Callable[[Call], tuple[Operand | None, ...]]
_TENSORS = "input weight weight_stride0 weight_buf hx cx output grad_output grad_hy grad_cy mode hidden_size"
_REST = "num_layers batch_first dropout train bidirectional batch_sizes dropout_state reserve output_mask"


def _recurrent(weights: Weights, *, backward: bool, stacked: bool = False) -> Formula:
    passes = 2 if backward else 1

    def formula(call: Call) -> OpFlops | None:
        x = call.tensor("input")
        matrices = [w.shape for w in weights(call) if w is not None and len(w.shape) == 2]
        if x is None or len(x.shape) < 2 or not matrices:
            return None
        products = passes * sum(map(prod, matrices))
        if backward and not _asks_for_input(call, x):
            products -= _of_input(call, matrices) if stacked else prod(matrices[0])
        tokens = prod(x.shape[:-1])  # packed sequences are one dimension
        return OpFlops.plain(2 * tokens * products * x.products, type=x.type, backward=backward)

    return formula


def _asks_for_input(call: Call, x: Operand) -> bool:
    """Whether the gradient of the input is asked for, if anything tells; else it counts."""
    mask = call.integers("output_mask")
    return x.needed is not False if mask is None else bool(mask[0])


def _of_input(call: Call, matrices: Sequence[tuple[int, ...]]) -> int:
    """Elements of the matrices that the input of a stack is multiplied with: one for each direction of its first layer."""
    if not call.flag("bidirectional"):
        return prod(matrices[0])
    layers = call.integer("num_layers") or 1
    return prod(matrices[0]) + prod(matrices[len(matrices) // (2 * layers)])


def layer(first: str, second: str, *, backward: bool = False) -> Formula:
    """One direction of one layer: the weights of the input and of the hidden state."""
    return _recurrent(lambda call: (call.tensor(first), call.tensor(second)), backward=backward)


def stack(*, backward: bool = False) -> Formula:
    """All layers, whose weights and biases are one list."""
    return _recurrent(lambda call: call.tensors("weight"), backward=backward, stacked=True)


RECURRENT: dict[str, Operator] = {
    "aten::mkldnn_rnn_layer": operator(layer("weight0", "weight1"), "input weight0 weight1"),
    "aten::mkldnn_rnn_layer_backward": replace(
        operator(layer("weight1", "weight2", backward=True), "input weight1 weight2"), asks_for_input=True
    ),
    "aten::_cudnn_rnn": operator(stack(), "input weight"),
    "aten::_cudnn_rnn_backward": operator(stack(backward=True), f"{_TENSORS} proj_size {_REST}"),
    "aten::miopen_rnn": operator(stack(), "input weight"),
    "aten::miopen_rnn_backward": operator(stack(backward=True), f"{_TENSORS} {_REST}"),
}
