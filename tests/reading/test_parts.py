"""A file that several processes read gives what one gives, damaged or not."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfu_doctor.reading.columns import COLUMNS
from mfu_doctor.reading.parser import Parser
from mfu_doctor.reading.parts import read_in_parts
from mfu_doctor.reading.source import Source
from tests.reading.layouts import LAYOUTS, native
from tests.traces import ROOT

EVENTS = 12_000
HEAD_START = 400_000  # bytes: parts of a megabyte or less, so that a small file has several
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


def everything(path: Path, processes: int, head_start: int = HEAD_START) -> dict[str, Any]:
    """All that reading a file found out."""
    with Source(path) as source:
        parser = Parser(source)
        absorbed = read_in_parts(parser, source, path, processes, head_start=head_start)
    found = {
        "absorbed": absorbed,
        "names": parser.columns.names,
        "tracks": parser.columns.tracks.tracks(),
        "args": parser.args.values,
        "tail": parser.tail,
        "damage": parser.damage,
        "cut": parser.cut_event,
        "unmatched": parser.pairs.unmatched,
        "truncated": source.truncated,
        "memory": parser.memory.to_bytes(),
    }
    return found | {name: parser.columns.take(name) for name in COLUMNS}


def assert_same_in_parts(path: Path, processes: tuple[int, ...] = (2, 3), *, sound: bool = True) -> dict[str, Any]:
    """Compare with one process; of a sound file others must have read at least one part."""
    alone = everything(path, 1)
    for count in processes:
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


def test_gzip_and_more_processes_than_parts(tmp_path: Path) -> None:
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
    """The process that reads the last part finds its list closed, and the stream cut off after it."""
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
    for head_start in range(
        HEAD_START, HEAD_START + 3000, 300
    ):  # the second part begins in an event and in the next ones
        together = everything(path, 2, head_start)
        assert together["names"] == alone["names"]
        np.testing.assert_array_equal(together["start"], alone["start"])


@pytest.mark.parametrize("interpreter", ["/no/such/python", "/bin/false"])
def test_no_other_process_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str) -> None:
    path = written(tmp_path, native(many()))
    expected = everything(path, 1)
    monkeypatch.setattr(sys, "executable", interpreter)
    found = everything(path, 3)
    assert found["absorbed"] == 0
    assert found["names"] == expected["names"]
    np.testing.assert_array_equal(found["start"], expected["start"])


def test_what_lies_in_the_users_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, native(many()))
    for name in ("numpy", "msgspec", "trace", "gc", "mfu_doctor"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert_same_in_parts(path)
    assert not (tmp_path / "imported").exists()


def test_a_cut_inside_an_event_that_is_given_up_is_no_beginning(tmp_path: Path) -> None:
    """Where this process had to mend something, another one could begin anywhere."""
    nested = [{"ph": "X", "ts": j, "cat": "kernel", "name": "no event"} for j in range(40)]
    path = written(tmp_path, LAYOUTS["one line"](many(lambda i: {"args": {"list": nested}} if i % 5 else {})))
    alone = everything(path, 1)
    for head_start in range(HEAD_START, HEAD_START + 2000, 400):
        together = everything(path, 3, head_start)
        assert together["damage"] == alone["damage"]
        np.testing.assert_array_equal(together["start"], alone["start"])


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/tr\xe9sor.json"))
    path.write_bytes(native(many()))
    assert_same_in_parts(path)


def test_an_interpreter_that_greets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sitecustomize that prints: what it says is not taken for events."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('welcome to this cluster', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    path = written(tmp_path, native(many()))
    assert everything(path, 2)["absorbed"] == 0
    assert_same_in_parts(path, (2,), sound=False)


def test_a_file_that_was_replaced_meanwhile(tmp_path: Path) -> None:
    path = written(tmp_path, native(many()))
    expected = everything(path, 1)
    with Source(path) as source:
        parser = Parser(source)
        (tmp_path / "new.json").write_bytes(native(many()).replace(b"kernel_", b"KERNEL_"))
        (tmp_path / "new.json").replace(path)
        assert read_in_parts(parser, source, path, 2, head_start=HEAD_START) == 0
    assert parser.columns.names == expected["names"]


# A process that wants a part of a file without end, and is killed.
KILLED = """
import os
from mfu_doctor.reading.parser import PartOf
from mfu_doctor.reading.parts import Order, _start
from mfu_doctor.reading.source import Source
order = Order(os.getpid(), b"huge.json", Source("huge.json").identity, PartOf(1 << 20, b",\\n", False), None)
print(_start(order).pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_process_that_reads_a_part_ends_with_the_one_that_wants_it(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are looked at in /proc")
    with (tmp_path / "huge.json").open("wb") as file:
        file.write(b'{"traceEvents": [\n')
        file.truncate(1 << 36)  # a hole: nobody reads that far in the time of this test
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environ, capture_output=True, timeout=60)
    assert killed.returncode == -9
    until = time.monotonic() + 30
    while time.monotonic() < until and _runs(int(killed.stdout)):
        time.sleep(0.05)
    assert not _runs(int(killed.stdout))


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # it has ended, and nobody asked how
