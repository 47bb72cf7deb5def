"""What one operator costs: its FLOPs under each convention, its format, and the least it must move.

FLOP = 2 x multiply-accumulate. Bias additions, activations and norms are no model FLOPs. Kept apart from the formulas so
that each family of formulas (matmuls, convolutions, attention) can return the same value without importing the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mfu_doctor.trace import EventArgs

COMPLEX_FACTOR = 4  # a complex multiply-accumulate is four real ones


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFlops:
    """FLOPs of one call of an operator.

    Attributes:
        model: what the mathematics needs, attention as a full square (PaLM's convention).
        executed: what the algorithm computes, recomputation inside the kernel included (flash attention's backward).
        causal: `model` counting only unmasked attention pairs.
        skipped: part of `executed` that a mask-aware kernel leaves out.
        dtype: format of the operands, short name.
        bytes: least traffic: each operand read once, the result written once.
        gemm: (batch, M, N, K) where the work is one matrix product, for tile and wave estimates.
        backward: the operator is a gradient by its nature.
    """

    model: int
    executed: int
    causal: int
    skipped: int = 0
    dtype: str | None = None
    bytes: float | None = None
    gemm: tuple[int, int, int, int] | None = None
    backward: bool = False

    @staticmethod
    def plain(
        flops: int,
        *,
        dtype: str | None,
        size: float | None = None,
        gemm: tuple[int, int, int, int] | None = None,
        backward: bool = False,
    ) -> OpFlops:
        """An operator that computes exactly what the mathematics needs; `size` is its least traffic in bytes."""
        return OpFlops(model=flops, executed=flops, causal=flops, dtype=dtype, bytes=size, gemm=gemm, backward=backward)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an operator's neighbours know that its own arguments do not tell.

    Attributes:
        output: shape of the result, from the gradient that its paired backward operator received.
        parent: arguments of the enclosing operator.
    """

    output: tuple[int, ...] | None = None
    parent: EventArgs | None = None


NOTHING_AROUND = Surroundings()
Formula: TypeAlias = Callable[[EventArgs, Surroundings], OpFlops | None]  # None: the arguments do not tell
