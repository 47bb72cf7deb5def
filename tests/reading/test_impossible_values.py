"""Values that cannot be: each is refused where it enters, and what is told of the rest of the file stays true."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from mfu_doctor.reading import read_trace
from mfu_doctor.trace import EventArgs, Trace
from tests.reading.test_edges import kernel, read, track


def op(ts: float, dur: float = 1, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": f"op{ts}", "pid": 1, "tid": 1, "ts": ts, "dur": dur} | more


def kinds(trace: Trace) -> list[str]:
    return [problem.kind for problem in trace.problems]


def args_of(**args: Any) -> EventArgs | None:
    return read(op(1, name="aten::mm", args=args)).args_of(0)


@pytest.mark.parametrize(
    "dims",
    [
        [5, [3, 4]],
        [[3, [1, 2]]],
        [[[[1]]]],
        [[2**40, 2**40]],
        [[10**400]],
        "no list",
    ],
    ids=["a number among shapes", "a shape in a shape", "too deep", "too many elements", "no 64 bits", "text"],
)
def test_shapes_that_no_tensor_has_are_unknown(dims: Any) -> None:
    args = args_of(**{"Input Dims": dims, "Input type": ["float"]})
    assert args is not None
    assert args.dims is None


def test_a_list_of_tensors_has_a_shape_for_each() -> None:
    args = args_of(**{"Input Dims": [[[2, 3], []], [4], []]})
    assert args == EventArgs(dims=(((2, 3), ()), (4,), ()))


@pytest.mark.parametrize("text", ["9" * 19, "9" * 5000, "٣"])
def test_printed_integers_that_do_not_fit_are_unknown(text: str) -> None:
    args = args_of(**{"Concrete Inputs": [text, f"[1, {text}]"]})
    assert args is not None
    assert args.printed(0) is None
    assert args.printed(1) is None


@pytest.mark.parametrize("process", [-(2**51), -(2**51) - 1, -(2**52), -(2**60), -1e300])
@pytest.mark.parametrize("other", [1, "a"], ids=["numbers", "words"])
def test_processes_below_all_numbers_are_themselves(process: float, other: object) -> None:
    """Ids in words are counted down from there, and a number must not be taken for a word."""
    trace = read(op(1, pid=process), op(2, pid=other), op(3, tid=process), op(4, pid="b"), op(5, pid=process))
    assert track(trace, 0) == track(trace, 4)
    assert len({track(trace, row) for row in range(4)}) == 4


def test_a_device_that_cannot_be_is_the_one_of_the_process_as_kineto_writes_both() -> None:
    trace = read(kernel(1, pid=2, device=1_500_000_000), kernel(2, pid=2, device=-5), kernel(3, pid=2, device=2))
    assert {track(trace, row).device for row in range(3)} == {2}


@pytest.mark.parametrize("process", [9 * 10**13, "GPU 90071992547409", -5])
def test_events_on_no_possible_device_are_left_out_and_counted(process: object) -> None:
    trace = read(kernel(1), kernel(2, pid=process))
    assert len(trace.events) == 1
    assert kinds(trace) == ["events-dropped"]


@pytest.mark.parametrize(("ts", "dur"), [(1e300, 1), (-1e300, 1), (-2e14, 1), (5e15, 1), (1, 1e300), (3.9e15, 3.9e15)])
def test_events_at_no_possible_time_are_left_out_and_counted(ts: float, dur: float) -> None:
    trace = read(op(10, 5), op(ts, dur), op(20, 5))
    assert trace.events.end.tolist() == [5_000, 15_000]
    assert kinds(trace) == ["events-dropped"]


def test_decimal_times_beyond_all_clocks_do_not_overflow() -> None:
    data = b"""{"baseTimeNanoseconds": 0, "traceEvents": [
        {"ph":"X","cat":"cpu_op","name":"a","pid":1,"tid":1,"ts":1710000000001000.5,"dur":5.25},
        {"ph":"X","cat":"cpu_op","name":"a","pid":1,"tid":1,"ts":9999990000001500.25,"dur":5}]}"""
    trace = read_trace(io.BytesIO(data))
    assert trace.events.end.tolist() == [5_250]
    assert kinds(trace) == ["events-dropped"]


@pytest.mark.parametrize("phase", ["X", "i"])
def test_memory_events_with_text_for_numbers_are_not_read(phase: str) -> None:
    told = {"Device Type": "x", "Device Id": 0, "Total Allocated": 1, "Total Reserved": 2}
    trace = read(op(1), {"ph": phase, "name": "[memory]", "ts": 2, "args": told})
    assert len(trace.events) == 1
    assert trace.memory is None


def test_memory_events_at_no_possible_time_are_not_read() -> None:
    told = {"Device Type": 1, "Device Id": 0, "Total Allocated": 1, "Total Reserved": 2}
    trace = read(op(1), *({"ph": "i", "name": "[memory]", "ts": ts, "args": told} for ts in (2, 1e300)))
    assert trace.memory is not None
    assert trace.memory.time.tolist() == [1_000]


@pytest.mark.parametrize("where", ["header", "footer", "event", "argument", "known key"])
def test_what_is_nested_deeper_than_any_profiler_writes_is_not_read(where: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    first = json.dumps(op(1))
    parts = {
        "header": f'{{"x": {deep}, "traceEvents": [{first}]}}',
        "footer": f'{{"traceEvents": [{first}], "x": {deep}}}',
        "event": f'{{"traceEvents": [{first}, {{"ph": "X", "ts": 2, "x": {deep}}}]}}',
        "argument": f'{{"traceEvents": [{first}, {{"ph": "X", "ts": 2, "name": "aten::mm", "args": {{"Input Dims": {deep}}}}}]}}',
        "known key": f'{{"deviceProperties": {deep}, "traceEvents": [{first}]}}',
    }
    trace = read_trace(io.BytesIO(parts[where].encode()))
    assert trace.name_of(0) == "op1"
    assert trace.devices == ()


@pytest.mark.parametrize(
    ("count", "read_as"), [(0, None), (-3, None), (10**400, None), ([1], None), ({}, None), (108, 108)]
)
def test_a_device_has_a_possible_number_of_units(count: Any, read_as: int | None) -> None:
    (device,) = read(op(1), deviceProperties=[{"name": "A100", "numSms": count, "totalGlobalMem": -1}]).devices
    assert device.sms == read_as
    assert device.memory_bytes is None


@pytest.mark.parametrize("entry", [[], 1, "x", {"name": [1]}, [[1]], [None], [{"name": None, "id": {}}]])
def test_devices_of_other_types_are_no_devices_or_have_no_properties(entry: Any) -> None:
    trace = read(op(1), deviceProperties=entry)
    assert all(device.sms is None for device in trace.devices)


def test_times_stay_ordered_whatever_the_file_holds() -> None:
    """Events whose start was lost begin with the first real one, in any order of the file."""
    trace = read(op(9e9, 5), op(0, 9e9 + 2), op(9e9 + 1, 1), op(0, 1))
    assert (np.diff(trace.events.start) >= 0).all()
    assert (trace.events.end >= trace.events.start).all()


@pytest.mark.parametrize(
    "facts",
    [
        {"timed_steps_s": [1e308]},
        {"timed_steps_s": [0.1, -0.1]},
        {"timed_steps_s": [0.1, 0.1], "timed_waits_s": [0.1]},
        {"rank": 10**31},
        {"windows": [{"kind": "timing", "start_ns": 5, "end_ns": 1, "steps": 1}]},
        {"samples": [{"device": "0", "time_ns": [1, 2], "power_w": [3]}]},
        {"given": {"peak_flops": 0}},
        {"measured_peaks": [{"dtype": "bf16", "flops": -1, "threads": 1, "how": ""}]},
    ],
    ids=str,
)
def test_facts_that_nobody_recorded_are_not_used(facts: dict[str, Any]) -> None:
    trace = read(op(1), mfu_doctor=facts)
    assert trace.facts is None
    assert kinds(trace) == ["bad-facts"]


def test_halves_of_characters_become_question_marks() -> None:
    """No file and no terminal can be given one: the name would be a traceback where the report is written."""
    data = json.dumps({"deviceProperties": [{"name": "\udfff"}], "traceEvents": [op(1)]})
    assert read_trace(io.BytesIO(data.encode())).devices[0].name == "?"


@pytest.mark.parametrize("stream", ["9" * 30, "9" * 5000, "²", "-" * 3, "main"])
def test_a_stream_that_is_no_number_has_none(stream: str) -> None:
    trace = read(kernel(1, stream=stream, device=0), op(2, tid="9" * 5000), kernel(3, pid="GPU " + "9" * 5000))
    assert track(trace, 0).tid == stream
    assert track(trace, 0).stream == -1
    assert len(trace.events) == 2
    assert kinds(trace) == ["events-dropped"]


@pytest.mark.parametrize(
    "grid", [[2**60] * 40, [-1, 1, 1], [2**64, 1, 1]], ids=["40 directions", "negative", "too large"]
)
def test_a_grid_has_three_directions(grid: list[int]) -> None:
    args = read(kernel(1, grid=grid, block=[256, 1, 1])).args_of(0)
    assert args is not None
    assert args.grid is None
    assert args.block == (256, 1, 1)
