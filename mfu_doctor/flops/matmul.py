"""FLOPs of matrix products and recurrent layers from recorded shapes: 2 M K N for every product (see `op_flops`)."""

from __future__ import annotations

from math import prod

from mfu_doctor.devices.dtypes import is_complex, short_dtype
from mfu_doctor.flops.op_args import element_bytes, operand_type, shape, shapes
from mfu_doctor.flops.op_flops import COMPLEX_FACTOR, Formula, OpFlops, Surroundings
from mfu_doctor.trace import EventArgs

FP4_PER_ELEMENT = 2  # torch packs two fp4 numbers into one recorded element


def _product(args: EventArgs, first: int, gemm: tuple[int, int, int, int]) -> OpFlops:
    batch, m, n, k = gemm
    kind = operand_type(args, first)
    if short_dtype(kind) == "fp4":
        k *= FP4_PER_ELEMENT
    flops = 2 * batch * m * k * n * (COMPLEX_FACTOR if is_complex(kind) else 1)
    size = element_bytes(args, first)
    least = batch * (m * k + k * n + m * n) * size if size else None
    return OpFlops.plain(flops, dtype=short_dtype(kind), size=least, gemm=(batch, m, n, k))


def matmul(first: int) -> Formula:
    """[M, K] @ [K, N], the operands at positions `first` and `first + 1`."""

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        a, b = shape(args, first), shape(args, first + 1)
        if a is None or b is None or len(a) != 2 or len(b) != 2:
            return None
        return _product(args, first, (1, a[0], b[1], a[1]))

    return formula


def batched(first: int) -> Formula:
    """[B, M, K] @ [B, K, N]."""

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        a, b = shape(args, first), shape(args, first + 1)
        if a is None or b is None or len(a) != 3 or len(b) != 3:
            return None
        return _product(args, first, (a[0], a[1], b[2], a[2]))

    return formula


def matrix_vector(first: int) -> Formula:
    """[M, K] @ [K], or [K] . [K]."""

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        a = shape(args, first)
        if a is None or shape(args, first + 1) is None or len(a) > 2:
            return None
        return _product(args, first, (1, prod(a[:-1]), 1, a[-1]))

    return formula


def outer(first: int) -> Formula:
    """[M] x [N]: a matrix product with K = 1."""

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        a, b = shape(args, first), shape(args, first + 1)
        return None if a is None or b is None else _product(args, first, (1, prod(a), prod(b), 1))

    return formula


def linear(args: EventArgs, _: Surroundings) -> OpFlops | None:
    """Input [..., in] @ weight [out, in]: counted only where no matmul operator runs inside it."""
    x, weight = shape(args, 0), shape(args, 1)
    if x is None or weight is None or len(weight) != 2 or x[-1] != weight[1]:
        return None
    return _product(args, 0, (1, prod(x[:-1]), weight[0], weight[1]))


def grouped(args: EventArgs, _: Surroundings) -> OpFlops | None:
    """Mixture-of-experts products: group borders are data, so padding inside them cannot be seen."""
    a, b = shape(args, 0), shape(args, 1)
    if a is None or b is None:
        return None
    if len(a) == 2:
        return _product(args, 0, (1, a[0], b[-1], a[1]))
    if len(b) == 2:
        return _product(args, 0, (1, a[1], b[1], a[2]))
    return _product(args, 0, (a[0], a[1], b[2], a[2]))


def _recurrent(passes: int, weights: tuple[int, ...], *, listed: bool) -> Formula:
    """One RNN layer (weights at positions) or a stack (weights in a list): every matrix once per token."""

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        x = shape(args, 0)
        given = shapes(args, weights[0]) if listed else tuple(w for i in weights if (w := shape(args, i)))
        matrices = [w for w in given if len(w) == 2]
        if x is None or len(x) != 3 or not matrices:
            return None
        flops = passes * 2 * x[0] * x[1] * sum(prod(w) for w in matrices)
        return OpFlops.plain(flops, dtype=short_dtype(operand_type(args, 0)), backward=passes == 2)

    return formula


MATMUL_FORMULAS: dict[str, Formula] = {
    "aten::mm": matmul(0),
    "aten::_int_mm": matmul(0),
    "aten::_scaled_mm": matmul(0),
    "aten::_scaled_mm_v2": matmul(0),
    "aten::addmm": matmul(1),
    "aten::_addmm_activation": matmul(1),
    "aten::bmm": batched(0),
    "aten::baddbmm": batched(1),
    "aten::addbmm": batched(1),
    "aten::mv": matrix_vector(0),
    "aten::addmv": matrix_vector(1),
    "aten::dot": matrix_vector(0),
    "aten::vdot": matrix_vector(0),
    "aten::addr": outer(1),
    "aten::linear": linear,
    "aten::mkldnn_linear": linear,
    "mkldnn::_linear_pointwise": linear,
    "aten::_grouped_mm": grouped,
    "aten::_scaled_grouped_mm": grouped,
    "aten::mkldnn_rnn_layer": _recurrent(1, (1, 2), listed=False),
    "aten::mkldnn_rnn_layer_backward": _recurrent(2, (1, 2), listed=False),
    "aten::_cudnn_rnn": _recurrent(1, (1,), listed=True),
    "aten::_cudnn_rnn_backward": _recurrent(2, (1,), listed=True),
    "aten::miopen_rnn": _recurrent(1, (1,), listed=True),
    "aten::miopen_rnn_backward": _recurrent(2, (1,), listed=True),
}
