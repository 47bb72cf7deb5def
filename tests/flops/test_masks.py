"""Unmasked pairs against counting the mask, and the figure that two tables once disagreed about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.flops.masks import Mask, square
from mfu_doctor.flops.trace_arguments import recorded_flops
from mfu_doctor.trace import EventArgs

LENGTH = st.integers(0, 12)
REACH = st.one_of(st.none(), st.integers(0, 14))


@given(LENGTH, LENGTH, REACH, REACH, st.booleans())
def test_pairs_match_a_mask(queries: int, keys: int, behind: int | None, ahead: int | None, bottom_right: bool) -> None:
    """The closed form against every pair: both alignments, windows, any aspect ratio."""
    mask = Mask(behind=behind, ahead=ahead, bottom_right=bottom_right)
    diagonal = keys - queries if bottom_right else 0
    seen = [
        (behind is None or j >= i + diagonal - behind) and (ahead is None or j <= i + diagonal + ahead)
        for i in range(queries)
        for j in range(keys)
    ]
    assert mask.pairs(queries, keys) == sum(seen)


def test_no_mask_is_the_square() -> None:
    assert square().pairs(3, 7) == 21


def efficient(mask_type: int) -> EventArgs:
    """Memory-efficient attention of 128 queries with 1024 keys, 8 heads of width 64, as Kineto records it."""
    q, kv = (1, 128, 8, 64), (1, 1024, 8, 64)
    printed = ("", "", "", "", "", "", "", "", "0.", str(mask_type), "False", "", "", "")
    return EventArgs(dims=(q, kv, kv, *((),) * 11), types=("c10::Half",) * 3 + ("",) * 11, concrete=printed)


def test_128_queries_on_1024_keys_by_hand() -> None:
    """Bottom right, query i of 128 sees the 896 keys before the queries' own and i + 1 of those: 897, 898, ..., 1024.

    That is 128 x 896 + 128 x 129 / 2 = 122,944 pairs. Top left, query i sees i + 1 keys: 8,256 pairs. Live counts once took
    the second number for both masks (16.9 instead of 251.8 MFLOP).
    """
    pairs = {0: 128 * 1024, 1: sum(range(1, 129)), 2: sum(range(897, 1025))}
    assert pairs == {0: 131_072, 1: 8_256, 2: 122_944}
    for mask_type, seen in pairs.items():
        found = recorded_flops("aten::_efficient_attention_forward", efficient(mask_type))
        assert found is not None
        assert found.causal == 8 * seen * 2 * (64 + 64)
        assert found.model == 8 * 131_072 * 2 * (64 + 64)
    assert 8 * pairs[1] * 256 == 16_908_288
    assert 8 * pairs[2] * 256 == 251_789_312
