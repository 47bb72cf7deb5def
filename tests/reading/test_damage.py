"""Damaged files are read as far as they go, and what was lost is said with the exact count."""

from __future__ import annotations

import gzip
import io
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Trace
from tests.reading.layouts import compact, microseconds, native, torch_2_13

COUNT = 2500  # more than two blocks of the native layout
BASE = 1_790_857_026_000_000_000
SPAN = 4_000_000_000_000_000  # relative times of this era, ns


def drawn(count: int = COUNT) -> dict[str, Any]:
    """Operators and kernels in turn, each 1 us after the last and 1 us long, named by their number."""
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "numSms": 132}],
        "traceEvents": [event(i) for i in range(count)],
        "baseTimeNanoseconds": BASE,
        "traceName": "drawn.json",
    }


def event(i: int) -> dict[str, Any]:
    where: dict[str, Any] = {"pid": 7, "tid": 7} if i % 2 == 0 else {"pid": 0, "tid": 7}
    args: dict[str, Any] = {"External id": i // 2}
    if i % 2:
        args |= {"correlation": i, "device": 0, "stream": 7, "blocks per SM": 0.5, "grid": [1, 1, 1]}
    return {
        "ph": "X",
        "cat": "kernel" if i % 2 else "cpu_op",
        "name": f"event {i} of it",
        **where,
        "ts": microseconds(SPAN + i * 1000),
        "dur": Decimal("1.000"),
        "args": args,
    }


NATIVE = native(drawn())
HEAD = torch_2_13(drawn())


def read(data: bytes) -> Trace:
    return read_trace(io.BytesIO(data))


def problems(trace: Trace) -> dict[str, int]:
    return {p.kind: p.count for p in trace.problems}


def numbers(trace: Trace) -> list[int]:
    """Which of the drawn events are there, by their names."""
    return [int(trace.name_of(row).split()[1]) for row in range(len(trace.events))]


def test_a_sound_file_has_no_problems() -> None:
    trace = read(NATIVE)
    assert trace.problems == ()
    assert numbers(trace) == list(range(COUNT))
    assert trace.origin_ns == BASE + SPAN


@pytest.mark.parametrize("whole", [NATIVE, HEAD, compact(drawn())], ids=["native", "torch 2.13", "compact"])
def test_a_file_cut_inside_an_event_keeps_everything_before(whole: bytes) -> None:
    at = whole.index(b"event 1700 of")
    trace = read(whole[: at + 5])
    assert numbers(trace) == list(range(1700))
    assert problems(trace)["truncated"] == 1
    assert "events-dropped" not in problems(trace)


def test_a_file_cut_between_two_events_loses_no_event_before() -> None:
    at = NATIVE.index(b"event 1700 of")
    trace = read(NATIVE[: NATIVE.rindex(b"{", 0, at)].rstrip())
    assert numbers(trace) == list(range(1700))
    assert problems(trace) == {"truncated": 0, "no-base-time": 0}
    assert trace.origin_ns == 0


def test_a_cut_file_of_torch_2_13_still_has_its_base_which_stands_in_front() -> None:
    trace = read(HEAD[: HEAD.index(b"event 1700 of")])
    assert trace.origin_ns == BASE + SPAN
    assert problems(trace) == {"truncated": 1}
    assert trace.devices[0].sms == 132


def test_a_cut_gzip_file_keeps_what_can_be_inflated() -> None:
    packed = gzip.compress(NATIVE)
    trace = read(packed[: len(packed) // 2])
    kept = numbers(trace)
    assert kept == list(range(len(kept)))
    assert COUNT // 4 < len(kept) < COUNT
    assert "truncated" in problems(trace)


def test_a_gzip_file_with_a_damaged_byte_keeps_what_is_before_it() -> None:
    packed = bytearray(gzip.compress(NATIVE, 1))
    packed[len(packed) // 2] ^= 0xFF
    trace = read(bytes(packed))
    assert numbers(trace)[:100] == list(range(100))
    assert {"truncated", "events-dropped", "events-repaired", "invalid-text"} & set(problems(trace))


def test_a_file_without_a_footer_says_so() -> None:
    end = NATIVE.rindex(b"]") + 1
    trace = read(NATIVE[:end])
    assert numbers(trace) == list(range(COUNT))
    assert set(problems(trace)) == {"no-footer", "no-base-time"}


def test_a_trailing_comma_loses_nothing() -> None:
    end = NATIVE.rindex(b"]")
    trace = read(NATIVE[:end].rstrip() + b",\n" + NATIVE[end:])
    assert numbers(trace) == list(range(COUNT))
    assert trace.problems == ()


@pytest.mark.parametrize("layout", [native, torch_2_13, compact])
def test_names_with_bare_quotes_are_repaired(layout: Any) -> None:
    """pytorch#146900; torch 2.13.0's C++ exporter."""
    data = layout(drawn())
    for i in range(100, 1100, 100):
        data = data.replace(b"event %d of it" % i, b'event %d of "it", I mean' % i)
    trace = read(data)
    assert numbers(trace) == list(range(COUNT))
    assert trace.name_of(100) == 'event 100 of "it", I mean'
    assert problems(trace) == {"events-repaired": 10}


@pytest.mark.parametrize("word", [b"inf", b"-nan", b"N/A", b"NaN", b"Infinity"])
def test_bare_words_for_numbers_become_unknown(word: bytes) -> None:
    """kineto#105: bandwidth of copies of 0 us."""
    trace = read(NATIVE.replace(b'"blocks per SM": 0.5', b'"blocks per SM": ' + word))
    assert numbers(trace) == list(range(COUNT))
    assert problems(trace) == {"events-repaired": COUNT // 2}
    args = trace.args_of(1)
    assert args is not None
    assert args.blocks_per_sm is None
    assert args.grid == (1, 1, 1)
    assert trace.events.correlation[1] == 1


def test_a_bare_word_inside_a_string_is_left_alone() -> None:
    data = NATIVE.replace(b"event 8 of it", b"event 8 of: inf, it").replace(b"event 9 of it", b'event 9 of "it')
    assert read(data).name_of(8) == "event 8 of: inf, it"


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """kineto#80, pytorch#130622."""
    trace = read(NATIVE.replace(b"event 8 of it", b"event 8 of \xff\xfe").replace(b"event 9 of it", b"event 9 of \xe9"))
    assert numbers(trace) == list(range(COUNT))
    assert trace.name_of(8) == "event 8 of \ufffd\ufffd"
    assert problems(trace) == {"invalid-text": 3}


def test_control_characters_are_replaced_and_newlines_kept() -> None:
    trace = read(NATIVE.replace(b"event 8 of it", b"event 8 of \x01\x02").replace(b"event 9 of it", b"event 9 of\nit"))
    assert numbers(trace) == list(range(COUNT))
    assert trace.name_of(9) == "event 9 of\nit"
    assert problems(trace) == {"invalid-text": 2}


def test_zeros_over_some_events_cost_those_events() -> None:
    start, end = (NATIVE.rindex(b"{", 0, NATIVE.index(b"event %d of" % i)) for i in (500, 510))
    trace = read(NATIVE[:start] + bytes(end - start) + NATIVE[end:])
    assert numbers(trace) == [*range(500), *range(510, COUNT)]
    assert problems(trace) == {"invalid-text": end - start}


def test_backslashes_of_windows_paths_are_kept() -> None:
    """pytorch#98432, kineto#336."""
    trace = read(NATIVE.replace(b"event 8 of it", b"event 8 of C:\\Users\\me"))
    assert trace.name_of(8) == "event 8 of C:\\Users\\me"
    assert problems(trace) == {"events-repaired": 1}


def test_damaged_arguments_cost_the_arguments_but_not_their_ids() -> None:
    data = NATIVE.replace(
        b'"External id": 4, "correlation": 9,', b'"External id": 4, "correlation": 9, "kind": "a "b" c",'
    )
    trace = read(data)
    assert numbers(trace) == list(range(COUNT))
    assert trace.events.correlation[9] == 9
    assert trace.args_of(9) is None
    assert problems(trace) == {"events-repaired": 1}


def test_an_event_that_cannot_be_read_is_dropped_and_counted() -> None:
    broken = NATIVE.replace(b'"name": "event 8 of it", "pid": 7', b'"name" "event 8 of it": 7')
    trace = read(broken)
    assert numbers(trace) == [i for i in range(COUNT) if i != 8]
    assert problems(trace) == {"events-dropped": 1}


@pytest.mark.parametrize("time", [b"null", b"nan", b'"soon"', b"1e999"])
def test_an_event_without_a_usable_time_is_dropped(time: bytes) -> None:
    trace = read(NATIVE.replace(b'"ts": 4000000000008.000', b'"ts": ' + time))
    assert numbers(trace) == [i for i in range(COUNT) if i != 8]
    assert problems(trace) == {"events-dropped": 1}


@pytest.mark.parametrize(
    "odd",
    [
        b'"id": null, "pid": 7',
        b'"pid": true',
        b'"pid": [7]',
        b'"pid": 7, "args": [1]',
        b'"pid": 7, "cat": 5, "x": {"ph": 1}',
    ],
)
def test_an_event_with_odd_types_is_kept(odd: bytes) -> None:
    trace = read(NATIVE.replace(b'"name": "event 8 of it", "pid": 7', b'"name": "event 8 of it", ' + odd))
    assert numbers(trace) == list(range(COUNT))


@pytest.mark.parametrize(
    "event", [b'{"ph": ["X"], "ts": 1}', b'{"ph": "X", "name": "no time"}', b"{}", b"[]", b"null", b"7"]
)
def test_what_is_no_event_is_dropped_and_counted(event: bytes) -> None:
    data = NATIVE.replace(b'"traceEvents": [', b'"traceEvents": [' + event + b",")
    trace = read(data)
    assert numbers(trace) == list(range(COUNT))
    assert problems(trace) == {"events-dropped": 1}


def test_a_broken_log_line_in_the_header_does_not_cost_the_known_keys() -> None:
    """kineto#1184: INFO arrays with unescaped quotes."""
    footer = b'"INFO": ["said "hello" to"], "baseTimeNanoseconds"'
    trace = read(NATIVE.replace(b'"baseTimeNanoseconds"', footer))
    assert trace.origin_ns == BASE + SPAN
    assert trace.devices[0].name == "NVIDIA H100 80GB HBM3"
    assert problems(trace) == {"invalid-text": 1}


def test_a_damaged_last_event_does_not_hide_the_footer() -> None:
    last = b"event %d of it" % (COUNT - 1)
    trace = read(NATIVE.replace(last, b'event %d of "it"' % (COUNT - 1)))
    assert numbers(trace) == list(range(COUNT))
    assert trace.origin_ns == BASE + SPAN
    assert problems(trace) == {"events-repaired": 1}


def test_impossible_times_are_repaired_and_counted() -> None:
    data = drawn(20)
    data["traceEvents"][3]["ts"] = 0  # a kernel: nothing tells when it ran
    data["traceEvents"][4]["dur"] = -5
    trace = read(native(data))
    assert problems(trace) == {"clamped-times": 1, "events-dropped": 1}
    assert trace.origin_ns == BASE + SPAN
    assert (trace.events.end >= trace.events.start).all()
    assert trace.events.end.max() == 20_000


SMALL = [native(drawn(12)), torch_2_13(drawn(12)), compact(drawn(12))]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.sampled_from(range(len(SMALL))), cuts=st.integers(1, 6))
def test_no_damage_raises_anything_but_the_one_error(seed: int, which: int, cuts: int) -> None:
    rng = random.Random(seed)
    data = bytearray(SMALL[which])
    for _ in range(cuts):
        start = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[start] = rng.randrange(256)
        elif kind == 1:
            del data[start : start + rng.randrange(60)]
        elif kind == 2:
            data[start:start] = rng.choice(
                [b'"', b"}", b"{", b"]", b"[", b",", b"\\", b"\0", b"nan", b"1e999", b"9" * 30]
            )
        else:
            data[start:start] = data[rng.randrange(len(data)) :][: rng.randrange(200)]
    try:
        trace = read(bytes(data))
    except NotATraceError:
        return
    assert (trace.events.end >= trace.events.start).all()
    assert trace.events.start.min() == 0
