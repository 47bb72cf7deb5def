"""A file that several threads read gives what one gives, damaged or not."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfu_doctor.reading.columns import COLUMNS
from mfu_doctor.reading.parser import Parser
from mfu_doctor.reading.parts import _Reader, read_in_parts
from mfu_doctor.reading.source import Source
from tests.both_ways import in_python, needs_core
from tests.reading.layouts import LAYOUTS, native
from tests.traces import ROOT

pytestmark = needs_core

EVENTS = 12_000
SMALLEST = 400_000  # bytes: parts of a megabyte or less, so that a small file has several
FOOTER = {"with_stack": True, "baseTimeNanoseconds": 1_700_000_000_000_000_000}


def event(i: int, **changes: Any) -> dict[str, Any]:
    """Kernels and operators with arguments that repeat, on several threads and streams; now and then an allocation."""
    if i % 50 == 49:
        args: dict[str, Any] = {"Device Type": 1, "Device Id": 0, "Total Allocated": i, "Total Reserved": 2 * i}
        return {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": i, "s": "t", "args": args} | changes
    shapes = {"Input Dims": [[i % 7, 8], [8, 4]], "Input type": ["float", "float"]}
    where = {"device": 0, "stream": 7 + i % 3, "correlation": i} if i % 2 else {"External id": i} | shapes
    kind = {"cat": "kernel", "name": f"kernel_{i // 900}"} if i % 2 else {"cat": "cpu_op", "name": f"aten::op_{i % 11}"}
    return {"ph": "X", "pid": 1, "tid": i % 5, "ts": i + 0.125, "dur": 1.5, "args": where} | kind | changes


def many(change: Callable[[int], dict[str, Any]] = lambda i: {}) -> dict[str, Any]:
    return {"schemaVersion": 1, "traceEvents": [event(i, **change(i)) for i in range(EVENTS)], **FOOTER}


def everything(path: Path, threads: int, smallest: int = SMALLEST) -> dict[str, Any]:
    """All that reading a file found out."""
    with Source(path) as source:
        parser = Parser(source)
        absorbed = read_in_parts(parser, source, path, threads, smallest=smallest)
    samples = parser.memory.samples(0)
    found = {
        "absorbed": absorbed,
        "names": parser.columns.names,
        "tracks": parser.columns.tracks.tracks(),
        "args": parser.args.parsed(),
        "tail": parser.tail,
        "damage": parser.damage,
        "cut": parser.cut_event,
        "unmatched": parser.pairs.unmatched,
        "truncated": source.truncated,
        "memory": None if samples is None else [getattr(samples, key).tolist() for key in samples.__struct_fields__],
    }
    return found | {name: parser.columns.take(name) for name in COLUMNS}


def assert_same_in_parts(path: Path, threads: tuple[int, ...] = (2, 3), *, sound: bool = True) -> dict[str, Any]:
    """Compare with one thread; of a sound file others must have read at least one part."""
    alone = everything(path, 1)
    for count in threads:
        together = everything(path, count)
        assert together.pop("absorbed") >= sound
        for key, value in alone.items():
            if key == "absorbed":
                continue
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(together[key], value, err_msg=key)
            else:
                assert together[key] == value, key
    return alone


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "trace.json"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str) -> None:
    alone = assert_same_in_parts(written(tmp_path, LAYOUTS[layout](many())))
    assert len(alone["start"]) == EVENTS - EVENTS // 50
    assert alone["tail"]


def test_gzip_and_more_threads_than_parts(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(native(many())))
    assert_same_in_parts(path, (2, 3))


def test_a_real_recording() -> None:
    assert_same_in_parts(ROOT / "tests" / "fixtures" / "clinic" / "anomaly-mode.pt.trace.json.gz", (2, 4, 64))


def test_times_since_1970_with_decimals(tmp_path: Path) -> None:
    data = many(lambda i: {"ts": 1_712_190_000_000_000 + i})
    text = native(data).replace(b', "dur"', b'.25, "dur"')
    alone = assert_same_in_parts(written(tmp_path, text))
    assert int(alone["start"][0]) == 1_712_190_000_000_000_250


def test_pairs_that_span_the_parts(tmp_path: Path) -> None:
    """A begin in one part and its end in another: no part can tell alone."""
    data = many()
    span = {"name": "epoch", "cat": "user_annotation", "pid": 1, "tid": 1}
    data["traceEvents"].insert(10, span | {"ph": "B", "ts": 10})
    data["traceEvents"].append({"ph": "E", "pid": 1, "tid": 1, "ts": EVENTS})
    alone = assert_same_in_parts(written(tmp_path, native(data)), sound=False)
    assert "epoch" in alone["names"]
    assert alone["unmatched"] == 0


@pytest.mark.parametrize("at", [EVENTS // 3, EVENTS - 5])
def test_damage_in_any_part(tmp_path: Path, at: int) -> None:
    text = native(many(lambda i: {"name": "MARK"} if i == at else {}))
    alone = assert_same_in_parts(written(tmp_path, text.replace(b'"MARK"', b'"say "hello""')), sound=False)
    assert alone["damage"].repaired == 1


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    text = native(many())
    alone = assert_same_in_parts(written(tmp_path, text[: int(len(text) * 0.9)]), sound=False)
    assert alone["tail"] is None
    packed = tmp_path / "cut.json.gz"
    packed.write_bytes(gzip.compress(text)[:-2000])
    assert assert_same_in_parts(packed, sound=False)["truncated"]


def test_a_gzip_file_whose_events_are_whole_and_whose_end_is_not(tmp_path: Path) -> None:
    """The thread that reads the last part finds its list closed, and the stream cut off after it."""
    packed = tmp_path / "cut.json.gz"
    whole = gzip.compress(native(many()))
    packed.write_bytes(whole[:-8] + whole[-4:])  # the checksum is lost, the stated size is not
    alone = assert_same_in_parts(packed, (2,), sound=False)
    assert alone["truncated"]
    assert alone["tail"] is not None


def test_events_end_long_before_the_file_does(tmp_path: Path) -> None:
    """What follows the list looks like events, and the later parts begin in it."""
    data = many() | {"with_modules": True, "ours": [event(i) for i in range(EVENTS)]}
    alone = assert_same_in_parts(written(tmp_path, native(data)), sound=False)
    assert len(alone["start"]) == EVENTS - EVENTS // 50


def test_a_part_that_begins_inside_an_event(tmp_path: Path) -> None:
    """Objects in the arguments are separated as events are."""
    nested = [{"ph": "X", "ts": j, "cat": "kernel", "name": "no event"} for j in range(8)]
    data = many(lambda i: {"args": {"list": nested}} if i % 10 == 0 else {})
    path = written(tmp_path, LAYOUTS["compact"](data))
    alone = everything(path, 1)
    assert "no event" not in alone["names"]
    for smallest in range(SMALLEST, SMALLEST + 3000, 300):  # the second part begins in an event and in the next ones
        together = everything(path, 2, smallest)
        assert together["names"] == alone["names"]
        np.testing.assert_array_equal(together["start"], alone["start"])


def test_a_cut_inside_an_event_that_is_given_up_is_no_beginning(tmp_path: Path) -> None:
    """Where this thread had to mend something, another one could begin anywhere."""
    nested = [{"ph": "X", "ts": j, "cat": "kernel", "name": "no event"} for j in range(40)]
    path = written(tmp_path, LAYOUTS["one line"](many(lambda i: {"args": {"list": nested}} if i % 5 else {})))
    alone = everything(path, 1)
    for smallest in range(SMALLEST, SMALLEST + 2000, 400):
        together = everything(path, 3, smallest)
        assert together["damage"] == alone["damage"]
        np.testing.assert_array_equal(together["start"], alone["start"])


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/tr\xe9sor.json"))
    path.write_bytes(native(many()))
    assert_same_in_parts(path)


def test_a_file_that_was_replaced_meanwhile(tmp_path: Path) -> None:
    path = written(tmp_path, native(many()))
    expected = everything(path, 1)
    with Source(path) as source:
        parser = Parser(source)
        (tmp_path / "new.json").write_bytes(native(many()).replace(b"kernel_", b"KERNEL_"))
        (tmp_path / "new.json").replace(path)
        assert read_in_parts(parser, source, path, 2, smallest=SMALLEST) == 0
    assert parser.columns.names == expected["names"]


def test_a_part_that_cannot_be_read_is_read_by_the_first_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, native(many()))
    expected = everything(path, 1)

    def failing(reader: _Reader) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(_Reader, "_read", failing)
    found = everything(path, 3)
    assert found["absorbed"] == 0
    assert found["names"] == expected["names"]
    np.testing.assert_array_equal(found["start"], expected["start"])


def test_no_thread_outlives_the_reading_of_a_file_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thread stops with an error while another has far to go."""

    def endless(reader: _Reader) -> None:
        while True:
            reader._go_on(0.5)
            time.sleep(0.01)

    def stop(fraction: float) -> None:
        if fraction > 0.2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Reader, "_read", endless)
    path = written(tmp_path, native(many()))
    before = set(threading.enumerate())
    with Source(path, stop) as source, pytest.raises(KeyboardInterrupt):
        read_in_parts(Parser(source), source, path, 2, smallest=SMALLEST)
    assert set(threading.enumerate()) <= before


def test_python_alone_reads_with_one_thread(tmp_path: Path) -> None:
    path = written(tmp_path, native(many()))
    with in_python():
        assert everything(path, 3)["absorbed"] == 0
