"""The least memory traffic of operators that do not multiply."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.utilization.op_bytes import minimal_bytes
from mfu_doctor.trace import EventArgs
from tests.flops.test_flop_formulas import FLOAT, args


@pytest.mark.parametrize(
    ("name", "kind", "values", "size"),
    [
        ("aten::add", "elementwise", ((4, 8), (4, 8), 1), 3 * 32 * 4),
        ("aten::add", "elementwise", ((4, 8), (8,), 1), (32 + 8 + 32) * 4),
        ("aten::gelu", "elementwise", ((4, 8), None), 2 * 32 * 4),
        ("aten::native_layer_norm", "normalization", ((4, 8), None, (8,), (8,)), (64 + 16) * 4),
        ("aten::_softmax", "softmax", ((4, 8), -1, False), 2 * 32 * 4),
        ("aten::sum", "reduction", ((4, 8), None), 32 * 4),
        ("aten::embedding", "embedding", ((50_257, 768), (10,)), 10 * 4 + 2 * 10 * 768 * 4),
    ],
)
def test_least_traffic_of_memory_bound_operators(name: str, kind: str, values: tuple[Any, ...], size: float) -> None:
    """Operands once, result once; an embedding moves its rows and not its table."""
    assert minimal_bytes(name, kind, args(*values)) == size


def test_fused_adam_moves_28_bytes_per_parameter() -> None:
    """Parameter, gradient and two moments read, three written, in fp32."""
    tensors = EventArgs(dims=(((10, 10), (28,)), (), ()), types=("TensorList", "TensorList", "TensorList"))
    assert minimal_bytes("aten::_fused_adamw_", "optimizer", tensors) == 28 * 128


def test_broadcast_rows_are_read_once() -> None:
    """An expanded tensor has stride 0 and is one row in memory."""
    expanded = EventArgs(dims=((4, 8), (4, 8)), types=(FLOAT, FLOAT), strides=((8, 1), (0, 1)))
    assert minimal_bytes("aten::mul", "elementwise", expanded) == (32 + 8 + 32) * 4
