"""FLOPs of convolutions: 2 x batch x weight elements x output positions.

The weight's shape [out, in / groups, k...] already contains the division by groups. A transposed convolution spreads each
input position over the kernel, so its positions are the input's. Positions of arguments differ by backend and are those
of PyTorch's native_functions.yaml.
"""

from __future__ import annotations

from math import prod

from msgspec.structs import replace

from mfu_doctor.flops.call import Call, Operand
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.operators import Formula, Operator, operator

Shape = tuple[int, ...]


def output_positions(x: Shape, weight: Shape, *, stride: Shape, padding: Shape, dilation: Shape) -> Shape | None:
    """Spatial size of a convolution's output; one value stands for all dimensions. None if the lists do not fit."""
    spatial = len(x) - 2
    lists = [(value * spatial if len(value) == 1 else value) for value in (stride, padding, dilation)]
    if any(len(value) != spatial for value in lists) or min(lists[0]) < 1:
        return None
    return tuple(
        max((size + 2 * p - d * (kernel - 1) - 1) // s + 1, 0)
        for size, kernel, s, p, d in zip(x[2:], weight[2:], *lists, strict=True)
    )


def _cost(x: Operand, weight: Operand, positions: Shape, *, passes: int = 1) -> OpFlops:
    """`passes` convolutions of x with weight over these positions."""
    places = x.shape[0] * prod(positions)
    flops = passes * 2 * places * prod(weight.shape) * x.products
    size = x.element_bytes
    least = passes * (prod(x.shape) + prod(weight.shape) + places * weight.shape[0]) * size if size else None
    return OpFlops.plain(flops, type=x.type, size=least)


def _fits(x: Operand, weight: Operand) -> bool:
    return len(x.shape) == len(weight.shape) >= 3


def forward(*, transposed: bool = False, dilated: bool = True) -> Formula:
    """A forward convolution; `dilated`: the operator has that argument."""

    def formula(call: Call) -> OpFlops | None:
        x, weight = call.tensor("input", "self"), call.tensor("weight")
        if x is None or weight is None or not _fits(x, weight):
            return None
        if transposed or call.flag("transposed"):
            return _cost(x, weight, x.shape[2:])
        out = call.output[2:] if call.output else _computed_output(call, x.shape, weight.shape, dilated=dilated)
        if out is None or len(out) != len(x.shape) - 2:
            return None
        cost = _cost(x, weight, out)
        whole = weight.shape[1] == x.shape[1]  # no groups: one matmul
        gemm = (1, x.shape[0] * prod(out), weight.shape[0], prod(weight.shape[1:])) if whole else None
        return replace(cost, gemm=gemm)

    return formula


def _computed_output(call: Call, x: Shape, weight: Shape, *, dilated: bool) -> Shape | None:
    stride, padding = call.integers("stride"), call.integers("padding")
    dilation = call.integers("dilation") if dilated else (1,)
    if stride is None or padding is None or dilation is None:
        return None
    return output_positions(x, weight, stride=stride, padding=padding, dilation=dilation)


def backward(call: Call) -> OpFlops | None:
    """One pass for each gradient that the mask asks for (input, weight)."""
    grad, x, weight = call.tensor("grad_output"), call.tensor("input"), call.tensor("weight")
    mask = call.integers("output_mask")
    if grad is None or x is None or weight is None or mask is None or not _fits(x, weight):
        return None
    positions = x.shape[2:] if call.flag("transposed") else grad.shape[2:]
    return replace(_cost(x, weight, positions, passes=sum(mask[:2])), backward=True)


def half_backward(call: Call) -> OpFlops | None:
    """One of the two halves that torch 1.x ran inside `cudnn_convolution_backward`, whose shapes hold for both."""
    x, grad, weight = call.tensor("self"), call.tensor("grad_output"), call.tensor("weight")
    if x is None or grad is None or weight is None or not _fits(x, weight) or len(grad.shape) < 3:
        return None
    return replace(_cost(x, weight, grad.shape[2:]), backward=True)


def _forward_row(signature: str, *, transposed: bool = False) -> Operator:
    formula = forward(transposed=transposed, dilated="dilation" in signature)
    return replace(operator(formula, signature), needs_output=True)


_GENERIC = "input weight bias stride padding dilation transposed"
_BIASED = "self weight bias padding stride dilation"
_SIZED = "self weight kernel_size bias stride padding dilation"
_HALF = replace(operator(half_backward, "self grad_output weight"), in_parent=True)

CONVOLUTION: dict[str, Operator] = {
    "aten::convolution": _forward_row(_GENERIC),
    "aten::_convolution": _forward_row(_GENERIC),
    "aten::convolution_overrideable": _forward_row(_GENERIC),
    "aten::cudnn_convolution": _forward_row("self weight padding stride dilation"),
    "aten::cudnn_convolution_transpose": _forward_row("self weight", transposed=True),
    "aten::cudnn_convolution_relu": _forward_row("self weight bias stride padding dilation"),
    "aten::mkldnn_convolution": _forward_row(_BIASED),
    "aten::miopen_convolution": _forward_row(_BIASED),
    "aten::miopen_depthwise_convolution": _forward_row(_BIASED),
    "aten::miopen_convolution_transpose": _forward_row("self weight", transposed=True),
    "aten::_slow_conv2d_forward": _forward_row("self weight kernel_size bias stride padding"),
    "aten::_conv_depthwise2d": _forward_row(_SIZED),
    "aten::conv_depthwise3d": _forward_row(_SIZED),
    "aten::convolution_backward": operator(
        backward,
        "grad_output input weight bias_sizes stride padding dilation transposed output_padding groups output_mask",
    ),
    "aten::convolution_backward_overrideable": operator(
        backward, "grad_output input weight stride padding dilation transposed output_padding groups output_mask"
    ),
    "aten::cudnn_convolution_backward_input": _HALF,
    "aten::cudnn_convolution_backward_weight": _HALF,
    "aten::miopen_convolution_backward_input": _HALF,
    "aten::miopen_convolution_backward_weight": _HALF,
}

# Where the gradient of the output stands in a backward operator; it has the shape of the forward output.
GRADIENT_POSITION = {
    "aten::convolution_backward": 0,
    "aten::convolution_backward_overrideable": 0,
    "aten::cudnn_convolution_backward": 1,
    "aten::miopen_convolution_backward": 1,
    "aten::mkldnn_convolution_backward": 1,
}
