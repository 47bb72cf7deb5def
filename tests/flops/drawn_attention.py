"""Random valid attention calls; their masks are counted one pair at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from tests.flops.drawn import FLOATS, Draw, Drawn, sizes, tensor


@dataclass(frozen=True)
class Attention:
    """How a family of attention operators takes its arguments.

    `mask`: "causal" (an argument of that name), "is_causal", "typed" (custom_mask_type) or None.
    `packed`: names of both offsets and both greatest lengths.
    """

    heads_first: bool
    bottom_right: bool = False
    mask: str | None = "is_causal"
    windows: bool = False
    packed: tuple[str, str, str, str] | None = None
    always_packed: bool = False
    rows_first: bool = False  # packed rows have a leading dimension of 1
    names: tuple[str, str, str] = ("query", "key", "value")
    backward: bool = False


CUM = ("cum_seq_q", "cum_seq_k", "max_q", "max_k")
CU = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")


def attention(**options: Any) -> Callable[[Draw], Drawn]:
    family = Attention(**options)

    def drawn(draw: Draw) -> Drawn:
        batch, queries, keys, width, value_width = sizes(draw, 5)
        key_heads = draw(st.integers(1, 3))
        heads = key_heads * draw(st.integers(1, 3))  # grouped queries
        packed = family.packed is not None and (family.always_packed or draw(st.booleans()))
        dtype = draw(FLOATS)

        def operand(length: int, count: int, size: int) -> torch.Tensor:
            if packed:
                rows = (1, batch * length) if family.rows_first else (batch * length,)
                return tensor(*rows, count, size, dtype=dtype)
            return tensor(batch, *((count, length) if family.heads_first else (length, count)), size, dtype=dtype)

        operands = (
            operand(queries, heads, width),
            operand(keys, key_heads, width),
            operand(keys, key_heads, value_width),
        )
        arguments, seen = _mask(draw, family, queries, keys)
        if family.packed is not None:
            arguments |= dict(zip(family.packed, _offsets(batch, queries, keys), strict=True)) if packed else {}
        per_pair = 2 * batch * heads * (width + value_width)
        products = (2, 2 * batch * heads * (3 * width + 2 * value_width)) if family.backward else (1, per_pair)
        return Drawn(
            dict(zip(family.names, operands, strict=True)) | arguments,
            model=products[0] * per_pair * queries * keys,
            causal=products[0] * per_pair * seen,
            executed=products[1] * queries * keys,
        )

    return drawn


def _offsets(batch: int, queries: int, keys: int) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    begin = torch.arange(batch + 1, dtype=torch.int32)
    return begin * queries, begin * keys, queries, keys


def _mask(draw: Draw, family: Attention, queries: int, keys: int) -> tuple[dict[str, Any], int]:
    """Arguments of a drawn mask, and the pairs that it leaves, counted one at a time."""
    behind, ahead, bottom_right = None, None, family.bottom_right
    arguments: dict[str, Any] = {}
    if family.windows:
        behind, ahead = (draw(st.sampled_from([-1, 0, 1, 3])) for _ in range(2))
        arguments |= {"window_size_left": behind, "window_size_right": ahead}
    if family.mask == "typed":
        kind = draw(st.integers(0, 2))
        arguments["custom_mask_type"] = kind
        ahead, bottom_right = 0 if kind else None, kind == 2
    elif family.mask is not None:
        arguments[family.mask] = draw(st.booleans())
        ahead = 0 if arguments[family.mask] else ahead
    diagonal = keys - queries if bottom_right else 0
    pairs = [(i + diagonal, j) for i in range(queries) for j in range(keys)]
    seen = [
        (behind is None or behind < 0 or j >= place - behind) and (ahead is None or ahead < 0 or j <= place + ahead)
        for place, j in pairs
    ]
    return arguments, sum(seen)
