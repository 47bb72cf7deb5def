"""Any well-formed trace, in any layout, cut into blocks anywhere, gives what the slow reader gives."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.reading import chunks, read_trace, source
from tests.reading.layouts import LAYOUTS, microseconds
from tests.reading.same import assert_same
from tests.reference import CATEGORIES, ON_DEVICE, from_json

TRICKY = [
    'a "quoted" name',
    "back\\slash",
    '}, {"ph": "X"',
    '"}, {"name',
    "名前",
    "tab\there",
    "]}",
    "traceEvents",
    "\ud7ff",
]
NAMES = st.sampled_from(
    [*TRICKY, "aten::mm", "aten::add_", "aten::view", "record_param_comms", "hipMemcpyAsync", "train.py(3): f"]
)
SHAPE = st.lists(st.integers(0, 2**16), max_size=3)  # no tensor has more than 2**48 elements
DIMS = st.lists(SHAPE | st.lists(SHAPE, min_size=1, max_size=2), max_size=3)
IDS = st.integers(0, 2**31 - 1)
ARGS = st.fixed_dictionaries(
    {},
    optional={
        "External id": IDS,
        "external id": IDS,
        "correlation": st.integers(0, 2**53),
        "Sequence number": IDS,
        "device": st.integers(0, 15),
        "stream": st.integers(-1, 100) | st.just("7"),
        "Input Dims": DIMS,
        "Input type": st.lists(st.sampled_from(["float", "", "c10::BFloat16", 'a"b']), max_size=3),
        "Concrete Inputs": st.lists(st.sampled_from(["", "[1, 2]", "True"]), max_size=3),
        "grid": st.lists(st.integers(0, 2**20), min_size=3, max_size=3),  # no kernel has 2**62 blocks
        "blocks per SM": st.sampled_from([0, 2, 0.5]),
        "bytes": IDS | st.just("128"),
        "Collective name": st.just("allreduce"),
        "dtype": st.just("Float"),
        "Process Group Name": st.sampled_from(["0", "tp", 'a"b']),
        "Process Group Description": st.just("default_pg"),
        "Process Group Ranks": st.sampled_from(["[0, 1]", "[0, 1, ...]", "[]"]),
        "Seq": st.integers(0, 2**40),
        "Src Rank": st.integers(0, 9),
        "cuda_sync_kind": st.just("Stream Sync"),
        "wait_on_stream": st.integers(0, 9),
        "nested": st.just([{"name": "x"}, {"ph": "X"}, {"ts": 1}]),
        "Python parent id": st.none(),
    },
)
CATS = st.sampled_from([*CATEGORIES, "Kernel", "Operator", "Trace", "something_new", "fwdbwd"])


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    phase = draw(st.sampled_from("XXXXXXXXMsfiCZ"))
    cat = draw(CATS)
    on_device = CATEGORIES.get(cat.lower()) in ON_DEVICE
    event: dict[str, Any] = {
        "ph": phase,
        "cat": cat,
        "name": draw(NAMES),
        "pid": draw(st.integers(0, 99) if on_device else st.integers(-1, 10**6) | st.sampled_from(["Spans", "", "12"])),
        "tid": draw(st.integers(0, 10**6) | st.sampled_from(["25738", "stream 7", "main"])),
        "ts": microseconds(draw(st.integers(0, 10**6) | st.integers(4 * 10**15, 4 * 10**15 + 10**6))),
    }
    if phase == "X":
        event["dur"] = microseconds(draw(st.integers(0, 10**9)))
    if phase != "i" and draw(st.booleans()):
        event["args"] = draw(ARGS)
    if draw(st.booleans()):
        event = dict(reversed(event.items()))
    return event


TRACES = st.fixed_dictionaries(
    {
        "schemaVersion": st.just(1),
        "traceEvents": st.lists(events(), min_size=1, max_size=30),
        "traceName": st.just("a]b"),
    },
    optional={
        "baseTimeNanoseconds": st.just(1_790_857_026_000_000_000),
        "distributedInfo": st.just({"rank": 3, "world_size": 8, "backend": "nccl", "pg_config": [{"a": 1}, {"b": 2}]}),
        "deviceProperties": st.just([{"id": 0, "name": "NVIDIA H100", "numSms": 132}, {"id": 1, "name": "x"}]),
        "record_shapes": st.sampled_from([0, 1]),
        "unknown": st.just([{"name": "not an event"}, {"ph": "X"}]),
    },
)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=40, deadline=None)
@given(data=TRACES, block=st.sampled_from([100, 257, 1000, 1 << 18]))
def test_every_layout_gives_what_the_slow_reader_gives(layout: str, data: dict[str, Any], block: int) -> None:
    lasting = [e for e in data["traceEvents"] if e["ph"] == "X" and e["cat"] != "Trace"]
    if not lasting or hours_apart(lasting):
        return
    written = LAYOUTS[layout](data)
    with pytest.MonkeyPatch.context() as patch:
        for module in (source, chunks):
            patch.setattr(module, "BLOCK", block)
        trace = read_trace(io.BytesIO(written))
    assert_same(trace, from_json(json.loads(written, parse_float=Fraction)))
    known_base = "baseTimeNanoseconds" in data
    assert [p.kind for p in trace.problems] == ([] if known_base else ["no-base-time"])


def hours_apart(lasting: list[dict[str, Any]]) -> bool:
    """A start of 0 far before everything else is taken as lost (tested with the clock)."""
    starts = [e["ts"] for e in lasting]
    return bool(min(starts) <= 0 and max(starts) > 10**9)
