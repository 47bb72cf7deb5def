"""What can be given to the reader: files, gzip in its forms, streams; and what it says to everything else."""

from __future__ import annotations

import gzip
import importlib
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import gunzip, read_trace, source
from tests.reading.layouts import native
from tests.reading.test_damage import COUNT, NATIVE, drawn, numbers

SMALL = native(drawn(10))


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The reader as it is with and without the extra `fast`."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
        for module in (gunzip, source):
            importlib.reload(module)
    yield request.param
    monkeypatch.undo()
    for module in (gunzip, source):
        importlib.reload(module)


def read(data: bytes) -> list[int]:
    return numbers(read_trace(io.BytesIO(data)))


def test_gzip_is_recognised_by_content(tmp_path: Path, library: str) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(gzip.compress(NATIVE))
    assert numbers(read_trace(path)) == list(range(COUNT))
    path = tmp_path / "trace.json.gz"
    path.write_bytes(NATIVE)
    trace = read_trace(str(path))
    assert numbers(trace) == list(range(COUNT))
    assert trace.label == "trace.json.gz"


def test_chained_gzip_members_are_one_file(library: str) -> None:
    third = len(NATIVE) // 3
    parts = [NATIVE[:third], NATIVE[third : 2 * third], NATIVE[2 * third :]]
    assert read(b"".join(gzip.compress(part) for part in parts)) == list(range(COUNT))


@pytest.mark.parametrize("over", [-1, 0, 1, 2])
def test_a_chained_member_is_read_wherever_a_block_of_the_file_ends(
    library: str, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    """With one byte of the second member in the block the rest of the file was once lost without a word."""
    half = len(NATIVE) // 2
    first, second = gzip.compress(NATIVE[:half]), gzip.compress(NATIVE[half:])
    monkeypatch.setattr(source, "BLOCK", len(first) + over)
    assert read(first + second) == list(range(COUNT))


def test_rubbish_after_gzip_is_ignored(library: str) -> None:
    assert read(gzip.compress(NATIVE) + bytes(100)) == list(range(COUNT))


def test_the_extra_fast_is_not_needed(library: str) -> None:
    assert (gunzip._LIBRARY is zlib) == (library == "zlib")


def test_a_byte_order_mark_and_blank_lines_are_skipped() -> None:
    assert read(b"\xef\xbb\xbf\n \n" + SMALL) == list(range(10))


def test_progress_goes_from_nothing_to_everything(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(NATIVE)
    seen: list[float] = []
    read_trace(path, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert 0 < seen[0] < 1
    assert seen[-1] == 1


def test_a_stream_is_left_open_and_has_its_name() -> None:
    stream = io.BytesIO(SMALL)
    stream.name = "<stdin>"
    assert read_trace(stream).label == "<stdin>"
    assert not stream.closed


def test_a_decompression_bomb_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BOMB_CHECK_FROM", 1 << 20)
    head = SMALL[: SMALL.index(b"[", SMALL.index(b"traceEvents")) + 1]
    bomb = gzip.compress(head + bytes(20 << 20), 1)
    with pytest.raises(NotATraceError, match="expands more than 200 times"):
        read_trace(io.BytesIO(bomb))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"\x7fELF\x02\x01", "is a program or library, not a torch.profiler trace"),
        (b"step,loss\n1,2\n", "is plain text"),
        (gzip.compress(b"hello", mtime=0), "is plain text"),
        (b'{"schema": 1, "findings": []}', "is JSON without a list of profiler events"),
        (b'{"traceEvents": null}', "is JSON without a list of profiler events"),
        (b'{"traceEvents": []}', "holds no event with a duration"),
        (b"[]", "holds no event with a duration"),
        (b"[1, 2, 3]", "is JSON without a list of profiler events"),
        (b'[{"name": "x"}]', "holds no event with a duration"),
        (b'{"traceEvents": [{"ph": "M", "name": "process_name"}]}', "holds no event with a duration"),
        (b'{"traceEvents": [', "holds no event with a duration"),
    ],
)
def test_what_is_no_trace_gets_one_sentence_and_a_remedy(data: bytes, says: str) -> None:
    with pytest.raises(NotATraceError) as caught:
        read_trace(io.BytesIO(data))
    assert says in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_paths_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match="does not exist"):
        read_trace(tmp_path / "none.json")
    with pytest.raises(NotATraceError, match="is a directory"):
        read_trace(tmp_path)


def test_the_garbage_collector_is_on_again_afterwards() -> None:
    import gc

    assert gc.isenabled()
    with pytest.raises(NotATraceError):
        read(b"[]")
    assert gc.isenabled()


def test_a_file_is_closed_if_whoever_is_told_of_the_progress_gives_up(tmp_path: Path) -> None:
    """Warnings are errors here: a file that was left open would be one."""
    path = tmp_path / "trace.json"
    path.write_bytes(NATIVE)

    def give_up(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_trace(path, progress=give_up)
