"""FLOPs of recurrent layers: every token is multiplied with every weight matrix once forward, twice backward."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from mfu_doctor.flops.call import Call, Operand
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.operators import Formula, Operator, operator


def _recurrent(weights: Callable[[Call], tuple[Operand | None, ...]], *, backward: bool) -> Formula:
    passes = 2 if backward else 1

    def formula(call: Call) -> OpFlops | None:
        x = call.tensor("input")
        matrices = [w.shape for w in weights(call) if w is not None and len(w.shape) == 2]
        if x is None or len(x.shape) < 2 or not matrices:
            return None
        tokens = prod(x.shape[:-1])  # packed sequences are one dimension
        flops = passes * 2 * tokens * sum(map(prod, matrices)) * x.products
        return OpFlops.plain(flops, type=x.type, backward=backward)

    return formula


def layer(first: str, second: str, *, backward: bool = False) -> Formula:
    """One direction of one layer: the weights of the input and of the hidden state."""
    return _recurrent(lambda call: (call.tensor(first), call.tensor(second)), backward=backward)


def stack(*, backward: bool = False) -> Formula:
    """All layers, whose weights and biases are one list."""
    return _recurrent(lambda call: call.tensors("weight"), backward=backward)


RECURRENT: dict[str, Operator] = {
    "aten::mkldnn_rnn_layer": operator(layer("weight0", "weight1"), "input weight0 weight1"),
    "aten::mkldnn_rnn_layer_backward": operator(layer("weight1", "weight2", backward=True), "input weight1 weight2"),
    "aten::_cudnn_rnn": operator(stack(), "input weight"),
    "aten::_cudnn_rnn_backward": operator(stack(backward=True), "input weight"),
    "aten::miopen_rnn": operator(stack(), "input weight"),
    "aten::miopen_rnn_backward": operator(stack(backward=True), "input weight"),
}
