"""The cost of one call of an operator: its FLOPs under each convention, its dtype, and its least memory traffic.

FLOP = 2 x multiply-accumulate. Bias additions, activations and norms are not model FLOPs. This type is separate from the
formulas, so that each family (matmuls, convolutions, attention) can return it without importing the others.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.devices.dtypes import short_dtype


class OpFlops(Struct, frozen=True, kw_only=True):
    """FLOPs of one call of an operator.

    Attributes:
        model: what the mathematics needs, attention as a full square (PaLM's convention).
        executed: what the algorithm computes, recomputation inside the kernel included (flash attention's backward).
        causal: `model` counting only unmasked attention pairs.
        skipped: part of `executed` that a mask-aware kernel leaves out.
        type: dtype of the operands as whoever saw the call spells it; None if unknown.
        bytes: least traffic: each operand read once, the result written once.
        gemm: (batch, M, N, K) where the work is one matmul, for tile and wave estimates.
        backward: the operator is a gradient by its nature.
    """

    model: int
    executed: int
    causal: int
    skipped: int = 0
    type: str | None = None
    bytes: float | None = None
    gemm: tuple[int, int, int, int] | None = None
    backward: bool = False

    @property
    def dtype(self) -> str | None:
        """Dtype of the operands, short name."""
        return short_dtype(self.type)

    @staticmethod
    def plain(
        flops: int,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        size: float | None = None,
        gemm: tuple[int, int, int, int] | None = None,
        backward: bool = False,
    ) -> OpFlops:
        """An operator that computes exactly what the mathematics needs; `size` is its least traffic in bytes."""
        return OpFlops(model=flops, executed=flops, causal=flops, type=type, bytes=size, gemm=gemm, backward=backward)
