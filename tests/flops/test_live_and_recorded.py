"""A live count and a count from a trace agree for every operator of the table, and both with the definition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

pytest.importorskip("torch", reason="torch is not installed")
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.capture.flops.live_arguments import live_call
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import TABLE
from mfu_doctor.flops.trace_arguments import Surroundings, recorded_flops
from mfu_doctor.trace import EventArgs
from tests.flops.drawn import Drawn, tensor
from tests.flops.drawn_attention import CU, CUM
from tests.flops.drawn_calls import CALLS
from tests.flops.recording import event_args
from tests.flops.schemas import filled, overloads, schema_of

EXAMPLES = 25  # of each operator


def live(key: str, drawn: Drawn) -> OpFlops | None:
    """Counted as the dispatch mode counts it: positional arguments first, keyword-only ones by name."""
    name, schema = key.partition(".")[0], schema_of(key)
    arguments = filled(schema, drawn.given)
    by_name = {a.name for a in schema.arguments if a.kwarg_only}
    args = [value for argument, value in arguments.items() if argument not in by_name]
    func = SimpleNamespace(_schema=schema) if "::" in name else object()  # a higher-order operator has no schema
    kwargs = {argument: value for argument, value in arguments.items() if argument in by_name}
    return TABLE[name].formula(live_call(func, TABLE[name], args, kwargs, drawn.out))


def recorded(key: str, drawn: Drawn, *, printed: bool = True) -> OpFlops | None:
    """Counted from what Kineto writes; without printed scalars (torch 1.8) the paired gradient has the output's shape."""
    name, schema = key.partition(".")[0], schema_of(key)
    args = event_args(schema, filled(schema, drawn.given))
    if not printed:
        args = replace(args, concrete=None)
    output = tuple(drawn.out.shape) if drawn.out is not None and not printed else None
    if TABLE[name].in_parent:
        return recorded_flops(name, EventArgs(dims=()), Surroundings(output, args))
    return recorded_flops(name, args, Surroundings(output))


def test_every_operator_is_drawn() -> None:
    """A new row of the table needs a line in `CALLS`: then the property below holds for it too."""
    assert {key.partition(".")[0] for key in CALLS} == set(TABLE)
    both = {(key, len(row.signatures)) for key, row in TABLE.items() if len(row.signatures) > 1}
    drawn = {key: sum(k.partition(".")[0] == key for k in CALLS) for key, _ in both}
    assert both == set(drawn.items()), "each overload with other positions is drawn"


@pytest.mark.parametrize("key", CALLS)
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_live_and_recorded_counts_agree(key: str, data: st.DataObject) -> None:
    """And are what the definition says; traffic, format, shape and phase agree as well."""
    drawn = CALLS[key](data.draw)
    seen, told = live(key, drawn), recorded(key, drawn)
    assert seen is not None
    assert told is not None
    assert (seen.model, seen.causal, seen.executed) == (drawn.model, drawn.causal, drawn.executed)
    assert replace(seen, type=None) == replace(told, type=None)
    assert seen.dtype == told.dtype is not None


@pytest.mark.parametrize("key", [key for key in CALLS if TABLE[key.partition(".")[0]].needs_output])
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_known_output_tells_as_much_as_printed_strides(key: str, data: st.DataObject) -> None:
    """Of a transposed convolution the input's positions count, which a generic operator must print."""
    drawn = CALLS[key](data.draw)
    if drawn.given["transposed"] and "transposed" in TABLE[key].signatures[0]:
        return
    assert recorded(key, drawn, printed=False) == recorded(key, drawn)


# Operators that take packed sequences, and the names of both offsets and both greatest lengths.
PACKED = {
    "aten::_flash_attention_forward": CUM,
    "aten::_cudnn_attention_forward": CUM,
    "aten::_efficient_attention_forward": CU,
    "flash_attn::_flash_attn_varlen_forward": CU,
    "flash_attn_3::fwd": CU,
    "flash_attn_3::_flash_attn_forward": CU,
    "aten::_flash_attention_backward": CUM,
    "aten::_cudnn_attention_backward": CUM,
    "aten::_efficient_attention_backward": CU,
    "flash_attn::_flash_attn_varlen_backward": CU,
    "flash_attn_3::bwd": CU,
    "flash_attn_3::_flash_attn_backward": CU,
}


def packed_call(key: str, queries: list[int], keys: list[int], *, device: str = "cpu") -> Drawn:
    """Two heads of width 4, sequences of these lengths, no mask."""
    starts = [
        torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)], dtype=torch.int32, device=device)
        for lengths in (queries, keys)
    ]
    names = ("q", "k", "v") if key.startswith("flash_attn") else ("query", "key", "value")
    q, k = tensor(sum(queries), 2, 4), tensor(sum(keys), 2, 4)
    given: dict[str, Any] = dict(zip(names, (q, k, k), strict=True))
    given |= dict(zip(PACKED[key], (*starts, max(queries), max(keys)), strict=True))
    given |= {"window_size_left": -1, "window_size_right": -1, "custom_mask_type": 0}
    unit = 2 * 2 * sum(a * b for a, b in zip(queries, keys, strict=True)) * (4 + 4)
    times = 2 if key.endswith(("backward", "bwd")) else 1
    return Drawn(given, times * unit, times * unit, unit * (5 if times == 2 else 2) // 2)


@pytest.mark.parametrize("key", PACKED)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=5))
@settings(max_examples=EXAMPLES, deadline=None)
def test_packed_sequences_of_different_lengths(key: str, lengths: list[tuple[int, int]]) -> None:
    """Live, their offsets are read; a trace does not hold them, and nobody guesses."""
    drawn = packed_call(key, [a for a, _ in lengths], [b for _, b in lengths])
    seen, told = live(key, drawn), recorded(key, drawn)
    assert seen is not None
    assert (seen.model, seen.causal, seen.executed) == (drawn.model, drawn.causal, drawn.executed)
    if len(set(lengths)) == 1:
        assert told is not None
        assert replace(seen, type=None) == replace(told, type=None)
    else:
        assert told is None


@pytest.mark.parametrize("key", PACKED)
def test_offsets_on_the_meta_device_have_no_values(key: str) -> None:
    """Then a live call knows as little as a trace: equal lengths are known, others are not."""
    ragged = packed_call(key, [3, 5], [3, 5], device="meta")
    assert live(key, ragged) is None
    equal = packed_call(key, [4, 4], [6, 6], device="meta")
    assert live(key, equal) == live(key, packed_call(key, [4, 4], [6, 6])) is not None


@pytest.mark.parametrize("name", [name for name in TABLE if overloads(name)])
def test_signatures_are_those_of_torch(name: str) -> None:
    """A position that moves in a new torch must fail here and not shift a count; further signatures are in full."""
    known = [[a.name for a in schema.arguments] for schema in overloads(name).values()]
    first, *others = TABLE[name].signatures
    assert any(tuple(names[: len(first)]) == first for names in known)
    assert {tuple(names) for names in known} >= set(others)


def test_a_sparse_matrix_has_no_flops_by_its_shape_live_either() -> None:
    dense = torch.ones(8, 8)
    call = live_call(torch.ops.aten.mm.default, TABLE["aten::mm"], (dense.to_sparse(), dense), {}, None)
    assert TABLE["aten::mm"].formula(call) is None
