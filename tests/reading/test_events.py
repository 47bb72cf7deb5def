"""Single events: pairs, order, instants, kept arguments."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import pytest

from mfu_doctor.reading import read_trace
from mfu_doctor.reading.arguments import keeps_arguments
from mfu_doctor.reading.order import narrowed, order_by, ranks, renumbered, taken
from mfu_doctor.trace import Category, Trace
from tests.reading.layouts import native


def read(*events: dict[str, Any]) -> Trace:
    return read_trace(io.BytesIO(native({"traceEvents": list(events), "baseTimeNanoseconds": 0})))


def op(name: str, ts: float, dur: float = 1, args: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": args or {}}


def half(phase: str, name: str, ts: str, tid: int = 1) -> dict[str, Any]:
    return {"ph": phase, "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": msgspec.Raw(ts.encode())}


def names(trace: Trace) -> list[str]:
    return [trace.name_of(i) for i in range(len(trace.events))]


def test_begin_and_end_pairs_are_durations_exact_to_the_nanosecond() -> None:
    trace = read(
        half("B", "outer", "4203669603018.756"),
        half("B", "inner", "4203669603020.001"),
        half("B", "elsewhere", "4203669603020.500", tid=2),
        half("E", "inner", "4203669603021.999"),
        half("E", "outer", "4203669603030.000"),
        half("E", "elsewhere", "4203669603040.501", tid=2),
    )
    assert names(trace) == ["outer", "inner", "elsewhere"]
    assert trace.events.start.tolist() == [0, 1_245, 1_744]
    assert (trace.events.end - trace.events.start).tolist() == [11_244, 1_998, 20_001]
    assert trace.problems == ()


def test_halves_without_their_other_half_are_counted() -> None:
    trace = read(op("whole", 1), half("E", "never begun", "5"), half("B", "never ended", "6"))
    assert names(trace) == ["whole"]
    assert [(p.kind, p.count) for p in trace.problems] == [("events-dropped", 2)]


def test_events_are_sorted_by_start_and_the_longer_of_a_tie_is_first() -> None:
    trace = read(
        op("late", 9), op("short", 5, 1), op("long", 5, 3), op("middle", 5, 2), op("first", 2), op("again", 5, 3)
    )
    assert names(trace) == ["first", "again", "long", "middle", "short", "late"]


def test_events_of_one_time_are_in_the_order_of_what_they_say() -> None:
    """Not in that of the file; an operator that began first has the smaller id."""
    outer, inner = op("z", 5, 3, {"External id": 4}), op("a", 5, 3, {"External id": 5})
    frame, called = (op(n, 5, 3, {"Python id": i}) | {"cat": "python_function"} for i, n in ((8, "y"), (9, "b")))
    for events in ([outer, inner, frame, called], [called, inner, frame, outer]):
        assert names(read(*events)) == ["z", "a", "y", "b"]
    assert read(frame).events.external_id.tolist() == [-1]


def test_order_is_what_a_full_sort_gives() -> None:
    rng = np.random.default_rng(0)
    for spread in (1, 3, 50, 10_000):
        keys = [rng.integers(0, spread, 500) for _ in range(4)]
        found = order_by(keys[0], *(lambda rows, key=key: key[rows] for key in keys[1:]))
        np.testing.assert_array_equal(found, np.lexsort(keys[::-1]))


def test_later_keys_are_not_made_without_need() -> None:
    def needless(rows: Any) -> Any:
        raise AssertionError

    assert order_by(np.array([3, 1, 2]), needless).tolist() == [1, 2, 0]


def test_ranks_are_those_of_the_sorted_values_and_none_is_before_all() -> None:
    assert ranks(["b", "c", "a"], str).tolist() == [1, 2, 0, -1]


def test_codes_are_counted_in_order_of_the_rows_and_unused_values_are_gone() -> None:
    codes = np.array([2, -1, 0, 2], np.int32)
    assert renumbered(codes, ("a", "b", "c")) == ("c", "a")
    assert codes.tolist() == [0, -1, 1, 0]
    assert renumbered(np.zeros(0, np.int32), ()) == ()


def test_codes_of_many_rows_are_counted_likewise() -> None:
    """What is done block by block is the same at the seams, wherever a code is met first."""
    rng = np.random.default_rng(1)
    codes = np.concatenate([rng.integers(-1, most, 50_000) for most in (5, 400, 30_000)]).astype(np.int32)
    before, values = codes.copy(), tuple(range(30_000))
    used = renumbered(codes, values)
    assert used == tuple(code for code in dict.fromkeys(before.tolist()) if code >= 0)
    assert np.array([*used, -1])[codes].tolist() == before.tolist()


def test_a_column_takes_the_memory_that_its_values_need() -> None:
    some, wide = np.array([-1, 7, 2**31 - 1]), np.array([-1, 7, 2**31])
    assert narrowed(some).dtype == np.int32
    assert narrowed(wide).dtype == np.int64
    for column in (some, wide):
        assert taken(narrowed(column), np.array([2, 0, 0])).tolist() == column[[2, 0, 0]].tolist()
    same = narrowed(np.full(1000, -1))
    assert same.tolist() == [-1] * 1000
    assert same.strides == taken(same, np.arange(999)).strides == (0,)
    assert taken(same, np.arange(999)).tolist() == [-1] * 999
    assert narrowed(np.zeros(0, np.int64)).tolist() == []


def test_ids_beyond_32_bits_are_kept() -> None:
    for most in (2**31 - 1, 2**31, 2**40):
        trace = read(op("a", 1, 1, {"correlation": most}), op("b", 3, 1, {"correlation": 5}))
        assert trace.events.correlation.tolist() == [most, 5]


def test_frames_are_the_python_rows_of_some_names() -> None:
    made = [op(name, at, 1) | {"cat": cat} for at, name, cat in ((1, "f", "python_function"), (3, "f", "cpu_op"))]
    trace = read(*made, op("g", 5, 1) | {"cat": "python_function"}, op("f", 7, 1) | {"cat": "python_function"})
    wanted = trace.name_ids({"f"})
    assert trace.named(wanted).tolist() == [True, True, False, True]
    assert trace.frames(wanted).tolist() == [0, 3]
    assert trace.frames(np.arange(len(trace.names))).tolist() == trace.rows(Category.PYTHON).tolist() == [0, 2, 3]
    assert trace.frames(wanted[:0]).tolist() == []


def test_memory_samples_have_the_clock_of_the_events() -> None:
    def sample(ts: float, device: int, total: int, kind: int) -> dict[str, Any]:
        args = {"Device Type": kind, "Device Id": device, "Total Allocated": total, "Total Reserved": 2 * total}
        return {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 1, "ts": ts, "args": args}

    trace = read(op("a", 10), sample(12.5, 0, 100, 1), sample(11, -1, 7, 0), sample(11.5, 1, 50, 1))
    assert trace.memory is not None
    assert trace.memory.time.tolist() == [1500, 2500]
    assert trace.memory.device.tolist() == [1, 0]
    assert trace.memory.allocated.tolist() == [50, 100]
    assert trace.memory.reserved.tolist() == [100, 200]


def test_equal_arguments_are_one_object() -> None:
    first, second = ({"Input Dims": [[2, 3], [3, 4]], "Ev Idx": i} for i in (1, 2))
    trace = read(op("aten::mm", 1, args=first), op("aten::mm", 2, args=second))
    assert trace.args_of(0) is trace.args_of(1)
    assert len(trace.args) == 1


def test_lists_of_tensors_are_nested_one_deeper() -> None:
    args = read(
        op("aten::cat", 1, args={"Input Dims": [[[2, 3], [4, 3]], []], "Input type": ["TensorList", "Scalar"]})
    ).args_of(0)
    assert args is not None
    assert args.dims == (((2, 3), (4, 3)), ())


@pytest.mark.parametrize(
    "name",
    ["aten::mm", "aten::_scaled_mm", "aten::convolution_backward", "aten::add_", "aten::copy_", "flash_attn::_flash_attn_forward",
     "mkldnn::_linear_pointwise", "record_param_comms", "c10d::allreduce_", "nccl:all_reduce", "triton_poi_fused_add_0",
     "aten::_fused_adam_", "aten::embedding_dense_backward", "aten::cross_entropy_loss", "torch::autograd::AccumulateGrad"],
)  # fmt: skip
def test_operators_that_may_launch_keep_their_arguments(name: str) -> None:
    assert keeps_arguments(name)


@pytest.mark.parametrize(
    "name", ["aten::view", "aten::empty", "aten::t", "aten::as_strided", "autograd::engine::evaluate_function: MmBackward0",
             "AddmmBackward0", "train.py(3): step", "cudaLaunchKernel", "ProfilerStep#3"],
)  # fmt: skip
def test_what_launches_nothing_keeps_none(name: str) -> None:
    assert not keeps_arguments(name)


def test_ids_beyond_their_column_are_absent() -> None:
    trace = read(op("a", 1, args={"External id": 2**40, "Sequence number": 2**31, "correlation": 2**50}))
    assert trace.events.external_id.tolist() == [-1]
    assert trace.events.correlation.tolist() == [2**50]
    assert read(op("a", 1, args={"correlation": 2**63})).events.correlation.tolist() == [-1]
    assert trace.events.sequence.tolist() == [-1]
    assert trace.events.correlation.tolist() == [2**50]
