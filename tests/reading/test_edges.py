"""Edges that rarely show: ids in damaged arguments, processes named in words, totals that are no totals, the end of a quarter."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.reading import read_trace
from mfu_doctor.reading.clock import TRIMONTH_NS, recover_base
from mfu_doctor.reading.codes import LONGEST_NAME
from mfu_doctor.trace import Trace, Track
from tests.reading.layouts import native
from tests.reading.test_damage import COUNT, NATIVE, drawn, numbers

NS_PER_S = 1_000_000_000


def read(*events: dict[str, Any], **header: Any) -> Trace:
    return read_trace(io.BytesIO(native({"traceEvents": list(events), "baseTimeNanoseconds": 0} | header)))


def kernel(ts: float, *, pid: object = 0, tid: object = 7, cat: str = "kernel", **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": f"k{ts}", "pid": pid, "tid": tid, "ts": ts, "dur": 1, "args": args}


def track(trace: Trace, row: int) -> Track:
    return trace.tracks[int(trace.events.track[row])]


def test_a_kernel_with_damaged_arguments_stays_on_its_device_and_stream() -> None:
    """On another stream it would seem to run beside what it waited for."""
    sound = kernel(1, device=3, stream=20, correlation=8)
    hurt = kernel(2, device=3, stream=20, correlation=9, kind="MARK")
    data = native({"traceEvents": [sound, hurt], "baseTimeNanoseconds": 0}).replace(b'"MARK"', b'"a "b" c"')
    trace = read_trace(io.BytesIO(data))
    assert [problem.kind for problem in trace.problems] == ["events-repaired"]
    assert track(trace, 1) == track(trace, 0)
    assert track(trace, 1).device == 3
    assert trace.events.correlation.tolist() == [8, 9]


@pytest.mark.parametrize(("process", "device"), [("GPU 3", 3), ("GPU 12", 12), ("CUDA functions", 5)])
def test_a_device_that_is_named_in_words_is_the_one_of_its_number(process: str, device: int) -> None:
    assert track(read(kernel(1, pid=process, tid=5)), 0).device == device


def test_devices_keep_their_own_numbers_in_whatever_order_they_are_listed() -> None:
    listed = [{"id": 1, "name": "H100"}, {"id": 0, "name": "T4"}, {"name": "A100"}]
    devices = read(kernel(1), deviceProperties=listed).devices
    assert [(device.index, device.name) for device in devices] == [(1, "H100"), (0, "T4"), (2, "A100")]


def test_a_copy_of_nothing_is_not_a_copy_of_unknown_size() -> None:
    trace = read(kernel(1, cat="gpu_memcpy", bytes=0, size=4096), kernel(2, cat="gpu_memcpy", grid=[1, 1, 1]))
    sizes = [args and args.copy_bytes for args in map(trace.args_of, (0, 1))]
    assert sizes == [0, None]


def test_what_the_file_says_wins_over_what_a_tool_kept_of_it() -> None:
    trace = read(kernel(1), metadata={"record_shapes": 0, "with_stack": 1}, record_shapes=1)
    assert trace.recorded.shapes is True
    assert trace.recorded.stacks is True


@pytest.mark.parametrize("total", [2**60, 10**30, -1, 1e300])
def test_a_total_that_no_memory_holds_is_left_out(total: float) -> None:
    def sample(ts: float, allocated: float) -> dict[str, Any]:
        args = {"Device Type": 1, "Device Id": 0, "Total Allocated": allocated, "Total Reserved": 200}
        return {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 1, "ts": ts, "args": args}

    memory = read(kernel(1), sample(2, 100), sample(3, total)).memory
    assert memory is not None
    assert memory.allocated.tolist() == [100]


def test_a_process_that_lives_past_the_end_of_its_quarter_keeps_its_base() -> None:
    """Kineto fixes the base when the process starts: a job of many days is recorded in the next one."""
    base = 200 * TRIMONTH_NS
    late = TRIMONTH_NS + 60 * NS_PER_S
    seen = (base + late, base + late + NS_PER_S)
    assert recover_base(late, late + NS_PER_S, seen_ns=seen) == base
    assert recover_base(60 * NS_PER_S, 61 * NS_PER_S, seen_ns=seen) == base + TRIMONTH_NS


@pytest.mark.parametrize("bare", [False, True])
def test_a_gzip_file_without_its_last_bytes_has_every_event_and_says_that_it_is_cut(bare: bool) -> None:
    """All events may be there by luck: only the checksum at the end could tell."""
    start = NATIVE.index(b"[", NATIVE.index(b"traceEvents"))
    plain = NATIVE[start : NATIVE.rindex(b"]") + 1] if bare else NATIVE
    trace = read_trace(io.BytesIO(gzip.compress(plain)[:-4]))
    assert numbers(trace) == list(range(COUNT))
    (told,) = [problem for problem in trace.problems if problem.kind == "truncated"]
    assert "gzip" in told.text


def test_a_damaged_byte_of_a_gzip_file_is_told_apart_from_a_file_that_was_cut() -> None:
    packed = bytearray(gzip.compress(NATIVE, 1))
    packed[len(packed) * 3 // 4] ^= 0xFF
    for data, how in ((bytes(packed), "gzip"), (NATIVE[: len(NATIVE) // 2], "It was cut off")):
        told = [p.text for p in read_trace(io.BytesIO(data)).problems if p.kind == "truncated"]
        assert len(told) == 1
        assert how in told[0]


def test_only_the_last_bytes_of_a_small_gzip_file_missing(tmp_path: Path) -> None:
    path = tmp_path / "small.json.gz"
    path.write_bytes(gzip.compress(native(drawn(10)))[:-1])
    assert numbers(read_trace(path)) == list(range(10))


def test_of_a_long_name_the_beginning_is_read() -> None:
    """A name takes no more of a report, and of each look at it, than the longest that a compiler makes."""
    long = "k" * (LONGEST_NAME + 5)
    trace = read(kernel(1) | {"name": long}, kernel(2) | {"name": long + "x"}, kernel(3) | {"name": "k"})
    assert sorted(trace.names) == ["k", "k" * LONGEST_NAME]
    assert [len(trace.name_of(row)) for row in range(3)] == [LONGEST_NAME, LONGEST_NAME, 1]
