"""FLOPs of fused attention from recorded shapes: two products per query-key pair forward, four backward.

Model FLOPs take the full square (comparable with published MFU); the causal figure counts the unmasked pairs exactly.
Fused backward kernels compute the scores again, a fifth product that is executed but no model work. Grouped-query
attention multiplies once per query head.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.flops.op_args import element_bytes, flag, integers, operand_type, shape
from mfu_doctor.flops.op_flops import Formula, OpFlops, Surroundings
from mfu_doctor.trace import EventArgs

TOP_LEFT, BOTTOM_RIGHT = 1, 2  # values of `custom_mask_type` in PyTorch's memory-efficient attention


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Batch x query heads, lengths and head widths of one call."""

    heads: int
    queries: int
    keys: int
    width: int
    value_width: int

    def flops(self, pairs: int, scores: int, values: int) -> int:
        """`scores` products over the score width and `values` over the value width, for each pair."""
        return 2 * self.heads * pairs * (scores * self.width + values * self.value_width)


def unmasked_pairs(queries: int, keys: int, *, bottom_right: bool = False) -> int:
    """Query-key pairs that a causal mask leaves: query i sees min(i + 1, keys), aligned top left (torch's `is_causal`).

    Bottom-right alignment lets the last query see every key.
    """
    seen = keys - queries if bottom_right else 0  # keys that the first query sees beyond its own position
    total = 0
    if seen < 0:
        queries, seen = queries + seen, 0
    growing = min(queries, max(keys - seen, 0))
    total += growing * seen + growing * (growing + 1) // 2
    return total + (queries - growing) * keys


@dataclass(frozen=True, slots=True)
class _Call:
    """Where one operator keeps its operands.

    `heads_first`: layout [B, H, T, D], else [B, T, H, D]. `causal`: position of the boolean, or of the mask type if `typed`.
    `packed`: position of the cumulative lengths of variable-length batches; the maxima of both lengths are at `longest`.
    """

    first: int
    causal: int
    heads_first: bool = True
    typed: bool = False
    packed: int | None = None
    longest: int = 0


def attention(call: _Call, *, backward: bool = False) -> Formula:
    """Fused attention, forward or backward."""
    model, executed = ((2, 2), (3, 2)) if backward else ((1, 1), (1, 1))

    def formula(args: EventArgs, _: Surroundings) -> OpFlops | None:
        sizes = _sizes(args, call)
        if sizes is None:
            return None
        square = sizes.queries * sizes.keys
        pairs = _pairs(args, call, sizes)
        full = sizes.flops(square, *executed)
        return OpFlops(
            model=sizes.flops(square, *model),
            executed=full,
            causal=sizes.flops(pairs, *model),
            skipped=full - sizes.flops(pairs, *executed),
            dtype=short_dtype(operand_type(args, call.first)),
            bytes=_traffic(args, call, passes=2 if backward else 1),
            backward=backward,
        )

    return formula


def _pairs(args: EventArgs, call: _Call, sizes: _Sizes) -> int:
    """Pairs that the kernel must compute; a custom additive mask is unknown data and counts as full."""
    mask = (integers(args, call.causal) or (0,))[0] if call.typed else int(bool(flag(args, call.causal)))
    if mask not in (TOP_LEFT, BOTTOM_RIGHT):
        return sizes.queries * sizes.keys
    return unmasked_pairs(sizes.queries, sizes.keys, bottom_right=mask == BOTTOM_RIGHT)


def _sizes(args: EventArgs, call: _Call) -> _Sizes | None:
    q, k, v = (shape(args, call.first + i) for i in range(3))
    if q is None or k is None or v is None:
        return None
    lengths = shape(args, call.packed) if call.packed is not None else None
    if lengths:
        return _equal_lengths(args, call, (q, k, v), lengths[0] - 1)
    if not len(q) == len(k) == len(v) == 4:
        return None
    time, head = (2, 1) if call.heads_first else (1, 2)
    return _Sizes(q[0] * q[head], q[time], k[time], q[3], v[3])


def _equal_lengths(args: EventArgs, call: _Call, operands: tuple[tuple[int, ...], ...], count: int) -> _Sizes | None:
    """Packed sequences: their lengths are data, so they are known only if all are as long as the longest."""
    q, k, v = operands
    longest = integers(args, call.longest), integers(args, call.longest + 1)
    if not longest[0] or not longest[1] or count < 1 or min(map(len, operands)) < 3:
        return None
    queries, keys = longest[0][0], longest[1][0]
    rows = prod(q[:-2]), prod(k[:-2])
    if rows != (count * queries, count * keys):
        return None
    return _Sizes(count * q[-2], queries, keys, q[-1], v[-1])


def _traffic(args: EventArgs, call: _Call, *, passes: int) -> float | None:
    size = element_bytes(args, call.first)
    operands = [shape(args, call.first + i) for i in (0, 1, 2, 0)]  # q, k, v and the output, shaped like q
    if size is None or any(o is None for o in operands):
        return None
    return passes * size * sum(prod(o) for o in operands if o is not None)


_FLASH = _Call(0, 8, heads_first=False, packed=3, longest=5)
_FLASH_BACKWARD = _Call(1, 11, heads_first=False, packed=6, longest=8)
_EFFICIENT = _Call(0, 9, heads_first=False, typed=True, packed=4, longest=6)
_EFFICIENT_BACKWARD = _Call(1, 14, heads_first=False, typed=True, packed=6, longest=8)

ATTENTION_FORMULAS: dict[str, Formula] = {
    "aten::scaled_dot_product_attention": attention(_Call(0, 5)),
    "aten::_scaled_dot_product_flash_attention": attention(_Call(0, 4)),
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention(_Call(0, 4)),
    "aten::_scaled_dot_product_efficient_attention": attention(_Call(0, 6)),
    "aten::_scaled_dot_product_cudnn_attention": attention(_Call(0, 6)),
    "aten::_scaled_dot_product_fused_attention_overrideable": attention(_Call(0, 5)),
    "aten::_flash_attention_forward": attention(_FLASH),
    "aten::_efficient_attention_forward": attention(_EFFICIENT),
    "flash_attn::_flash_attn_forward": attention(_Call(0, 5, heads_first=False)),
    "aten::_scaled_dot_product_flash_attention_backward": attention(_Call(1, 11), backward=True),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": attention(_Call(1, 7), backward=True),
    "aten::_scaled_dot_product_efficient_attention_backward": attention(_Call(1, 11), backward=True),
    "aten::_scaled_dot_product_cudnn_attention_backward": attention(_Call(1, 14), backward=True),
    "aten::_flash_attention_backward": attention(_FLASH_BACKWARD, backward=True),
    "aten::_efficient_attention_backward": attention(_EFFICIENT_BACKWARD, backward=True),
    "flash_attn::_flash_attn_backward": attention(_Call(1, 11, heads_first=False), backward=True),
}
