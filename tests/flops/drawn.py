"""What a drawn call of an operator is: its arguments, and its FLOPs counted without any formula of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

SIZE = st.integers(1, 7)
FLOATS = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])
NUMBERS = st.one_of(FLOATS, st.just(torch.complex64))


@dataclass(frozen=True)
class Drawn:
    """A call: arguments by name (others take their default), result, and FLOPs by definition."""

    given: dict[str, Any]
    model: int
    causal: int
    executed: int
    out: torch.Tensor | None = None

    @staticmethod
    def plain(given: dict[str, Any], flops: int, out: torch.Tensor | None = None) -> Drawn:
        return Drawn(given, flops, flops, flops, out)


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def sizes(draw: Draw, count: int) -> list[int]:
    return [draw(SIZE) for _ in range(count)]
