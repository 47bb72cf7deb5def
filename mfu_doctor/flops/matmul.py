"""FLOPs of matmuls: 2 M K N each (see `op_flops`); unknown of sparse matrices, whose shapes do not tell what is multiplied."""

from __future__ import annotations

from math import prod

from mfu_doctor.flops.call import Call, Operand
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.operators import Formula, Operator, operator

FP4_PER_ELEMENT = 2  # torch packs two fp4 numbers into one stored element


def _product(operand: Operand, gemm: tuple[int, int, int, int]) -> OpFlops:
    batch, m, n, k = gemm
    if operand.dtype == "fp4":
        k *= FP4_PER_ELEMENT
    size = operand.element_bytes
    least = batch * (m * k + k * n + m * n) * size if size else None
    flops = 2 * batch * m * k * n * operand.products
    return OpFlops.plain(flops, type=operand.type, size=least, gemm=(batch, m, n, k))


def matrices(first: str, second: str) -> Formula:
    """[M, K] @ [K, N]."""

    def formula(call: Call) -> OpFlops | None:
        a, b = call.tensor(first), call.tensor(second)
        if a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2 or a.sparse or b.sparse:
            return None
        return _product(a, (1, a.shape[0], b.shape[1], a.shape[1]))

    return formula


def batches(first: str, second: str) -> Formula:
    """[B, M, K] @ [B, K, N]."""

    def formula(call: Call) -> OpFlops | None:
        a, b = call.tensor(first), call.tensor(second)
        if a is None or b is None or len(a.shape) != 3 or len(b.shape) != 3 or a.sparse or b.sparse:
            return None
        return _product(a, (a.shape[0], a.shape[1], b.shape[2], a.shape[2]))

    return formula


def matrix_vector(first: str, second: str) -> Formula:
    """[M, K] @ [K], or [K] . [K]."""

    def formula(call: Call) -> OpFlops | None:
        a = call.tensor(first)
        if a is None or a.sparse or call.tensor(second) is None or not 1 <= len(a.shape) <= 2:
            return None
        return _product(a, (1, prod(a.shape[:-1]), 1, a.shape[-1]))

    return formula


def outer(call: Call) -> OpFlops | None:
    """[M] x [N]: a matmul with K = 1."""
    a, b = call.tensor("vec1"), call.tensor("vec2")
    return None if a is None or b is None else _product(a, (1, prod(a.shape), prod(b.shape), 1))


def linear(call: Call) -> OpFlops | None:
    """Input [..., in] @ weight [out, in]."""
    x, weight = call.tensor("input", "self", "X"), call.tensor("weight", "W")
    if x is None or weight is None or len(weight.shape) != 2 or x.shape[-1:] != weight.shape[1:]:
        return None
    return _product(x, (1, prod(x.shape[:-1]), *weight.shape))


def grouped(call: Call) -> OpFlops | None:
    """Mixture-of-experts products over all rows: where the groups end is data, and padding after the last one counts.

    Groups split the rows (2-d x 3-d), the inner dimension (2-d x 2-d), the columns (3-d x 2-d), or are a batch.
    """
    first, second = call.tensor("self"), call.tensor("mat2")
    if first is None or second is None:
        return None
    a, b = first.shape, second.shape
    if len(a) not in (2, 3) or len(b) not in (2, 3):
        return None
    if len(a) == 2:
        return _product(first, (1, a[0], b[-1], a[1]))
    return _product(first, (1, a[1], b[1], a[2]) if len(b) == 2 else (a[0], a[1], b[2], a[2]))


MATMUL: dict[str, Operator] = {
    "aten::mm": operator(matrices("self", "mat2"), "self mat2"),
    "aten::_int_mm": operator(matrices("self", "mat2"), "self mat2"),
    "aten::_scaled_mm": operator(matrices("self", "mat2"), "self mat2"),
    "aten::_scaled_mm_v2": operator(matrices("self", "mat2"), "self mat2"),
    "aten::addmm": operator(matrices("mat1", "mat2"), "self mat1 mat2"),
    "aten::_addmm_activation": operator(matrices("mat1", "mat2"), "self mat1 mat2"),
    "aten::bmm": operator(batches("self", "mat2"), "self mat2"),
    "aten::baddbmm": operator(batches("batch1", "batch2"), "self batch1 batch2"),
    "aten::addbmm": operator(batches("batch1", "batch2"), "self batch1 batch2"),
    "aten::mv": operator(matrix_vector("self", "vec"), "self vec"),
    "aten::addmv": operator(matrix_vector("mat", "vec"), "self mat vec"),
    "aten::dot": operator(matrix_vector("self", "tensor"), "self tensor"),
    "aten::vdot": operator(matrix_vector("self", "other"), "self other"),
    "aten::addr": operator(outer, "self vec1 vec2"),
    "aten::linear": operator(linear, "input weight"),
    "aten::mkldnn_linear": operator(linear, "self weight"),
    "mkldnn::_linear_pointwise": operator(linear, "X W B attr scalars algorithm", "X other W B attr"),
    "aten::_grouped_mm": operator(grouped, "self mat2"),
    "aten::_scaled_grouped_mm": operator(grouped, "self mat2"),
    "aten::_scaled_grouped_mm_v2": operator(grouped, "self mat2"),
}
