"""FLOPs of convolutions from recorded shapes: 2 x batch x weight elements x output positions.

The weight's shape [out, in / groups, k...] already contains the division by groups. A transposed convolution spreads each
input position over the kernel, so its positions are the input's. Positions of arguments differ by backend and are those
of PyTorch's native_functions.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.flops.op_args import element_bytes, flag, flags, integers, operand_type, shape
from mfu_doctor.flops.op_flops import Formula, OpFlops, Surroundings
from mfu_doctor.trace import EventArgs

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Positions:
    """Positions of stride, padding and dilation, and of `transposed` where the operator has that argument."""

    stride: int
    padding: int
    dilation: int
    transposed: int | None = None


_GENERIC = _Positions(3, 4, 5, 6)
_CUDNN = _Positions(3, 2, 4)
_BIASED = _Positions(4, 3, 5)  # mkldnn and MIOpen take the bias third


def output_positions(x: Shape, weight: Shape, *, stride: Shape, padding: Shape, dilation: Shape) -> Shape | None:
    """Spatial size of a convolution's output; one value stands for all dimensions. None where the lists do not fit."""
    spatial = len(x) - 2
    lists = [(value * spatial if len(value) == 1 else value) for value in (stride, padding, dilation)]
    if any(len(value) != spatial for value in lists) or min(lists[0]) < 1:
        return None
    return tuple(
        (size + 2 * p - d * (kernel - 1) - 1) // s + 1
        for size, kernel, s, p, d in zip(x[2:], weight[2:], *lists, strict=True)
    )


def _cost(args: EventArgs, x: Shape, weight: Shape, positions: Shape, *, passes: int = 1) -> OpFlops:
    """`passes` convolutions of x with weight over these positions; the format is that of the first argument."""
    flops = 2 * x[0] * prod(weight) * prod(positions)
    size = element_bytes(args, 0)
    out = x[0] * weight[0] * prod(positions)
    least = passes * (prod(x) + prod(weight) + out) * size if size else None
    return OpFlops.plain(flops * passes, dtype=short_dtype(operand_type(args, 0)), size=least)


def forward(positions: _Positions, *, transposed: bool = False) -> Formula:
    """A forward convolution: x at 0, weight at 1."""

    def formula(args: EventArgs, around: Surroundings) -> OpFlops | None:
        x, weight = shape(args, 0), shape(args, 1)
        if x is None or weight is None or len(x) != len(weight) or len(x) < 3:
            return None
        if transposed or (positions.transposed is not None and flag(args, positions.transposed)):
            return _cost(args, x, weight, x[2:])
        out = _recorded_output(args, positions, x, weight) or (around.output[2:] if around.output else None)
        if out is None:
            return None
        cost = _cost(args, x, weight, out)
        gemm = (1, x[0] * prod(out), weight[0], prod(weight[1:])) if weight[1] == x[1] else None
        return OpFlops.plain(cost.model, dtype=cost.dtype, size=cost.bytes, gemm=gemm)

    return formula


def _recorded_output(args: EventArgs, positions: _Positions, x: Shape, weight: Shape) -> Shape | None:
    stride, padding = integers(args, positions.stride), integers(args, positions.padding)
    dilation = integers(args, positions.dilation)
    if stride is None or padding is None or dilation is None:
        return None
    return output_positions(x, weight, stride=stride, padding=padding, dilation=dilation)


def backward(args: EventArgs, _: Surroundings) -> OpFlops | None:
    """`aten::convolution_backward`: one pass for each gradient that its mask asks for (input, weight)."""
    grad, x, weight, mask = shape(args, 0), shape(args, 1), shape(args, 2), flags(args, 10)
    if grad is None or x is None or weight is None or mask is None:
        return None
    positions = x[2:] if flag(args, 7) else grad[2:]
    cost = _cost(args, x, weight, positions, passes=sum(mask[:2]))
    return OpFlops.plain(cost.model, dtype=cost.dtype, size=cost.bytes, backward=True)


def split_backward(_: EventArgs, around: Surroundings) -> OpFlops | None:
    """One of the two halves that torch 1.x ran inside `cudnn_convolution_backward`, whose shapes hold for both."""
    if around.parent is None:
        return None
    x, grad, weight = (shape(around.parent, i) for i in range(3))
    if x is None or grad is None or weight is None or not grad[2:]:
        return None
    cost = _cost(around.parent, x, weight, grad[2:])
    return OpFlops.plain(cost.model, dtype=cost.dtype, size=cost.bytes, backward=True)


CONVOLUTION_FORMULAS: dict[str, Formula] = {
    "aten::convolution": forward(_GENERIC),
    "aten::_convolution": forward(_GENERIC),
    "aten::convolution_overrideable": forward(_GENERIC),
    "aten::cudnn_convolution": forward(_CUDNN),
    "aten::cudnn_convolution_transpose": forward(_CUDNN, transposed=True),
    "aten::cudnn_convolution_relu": forward(_BIASED),
    "aten::mkldnn_convolution": forward(_BIASED),
    "aten::miopen_convolution": forward(_BIASED),
    "aten::miopen_depthwise_convolution": forward(_BIASED),
    "aten::miopen_convolution_transpose": forward(_BIASED, transposed=True),
    "aten::convolution_backward": backward,
    "aten::convolution_backward_overrideable": backward,
    "aten::cudnn_convolution_backward_input": split_backward,
    "aten::cudnn_convolution_backward_weight": split_backward,
    "aten::miopen_convolution_backward_input": split_backward,
    "aten::miopen_convolution_backward_weight": split_backward,
}

# Where the gradient of the output stands in a backward operator; it has the shape of the forward output.
GRADIENT_POSITION = {
    "aten::convolution_backward": 0,
    "aten::convolution_backward_overrideable": 0,
    "aten::cudnn_convolution_backward": 1,
    "aten::miopen_convolution_backward": 1,
    "aten::mkldnn_convolution_backward": 1,
}
NEEDS_OUTPUT = frozenset(name for name in CONVOLUTION_FORMULAS if "backward" not in name)
NEEDS_PARENT = frozenset(name for name, formula in CONVOLUTION_FORMULAS.items() if formula is split_backward)
