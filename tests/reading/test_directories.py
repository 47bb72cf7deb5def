"""Directories as torch's `tensorboard_trace_handler` fills them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import find_traces


def write(path: Path, written: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (written, written))
    return path


def test_the_newest_span_of_a_worker_is_chosen_and_the_others_are_listed(tmp_path: Path) -> None:
    old = write(tmp_path / "node0_20417.1795499893190429825.pt.trace.json.gz", written=9)
    new = write(tmp_path / "node0_20417.1795499899000000000.pt.trace.json", written=5)
    write(tmp_path / "events.out.tfevents.1")
    write(tmp_path / "node0_20417.pt.trace.json.tmp")
    found = find_traces(tmp_path)
    assert found.run == tmp_path
    assert [(t.path, t.worker, t.span) for t in found.ranks] == [(new, "node0_20417", 1795499899000000000)]
    assert [t.path for t in found.older] == [old]
    assert found.chosen.path == new


def test_each_worker_is_a_rank_in_the_order_people_count(tmp_path: Path) -> None:
    for rank in (10, 2, 1):
        write(tmp_path / f"rank{rank}.pt.trace.json.gz")
    assert [t.worker for t in find_traces(tmp_path).ranks] == ["rank1", "rank2", "rank10"]


def test_without_spans_in_the_names_the_files_times_decide(tmp_path: Path) -> None:
    write(tmp_path / "w.pt.trace.json", written=5)
    new = write(tmp_path / "w.pt.trace.json.gz", written=6)
    assert find_traces(tmp_path).chosen.path == new


def test_above_several_runs_the_one_written_last_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "exp1" / "w.100.pt.trace.json")
    write(tmp_path / "exp2" / "deep" / "w.200.pt.trace.json")
    found = find_traces(tmp_path)
    assert found.run == tmp_path / "exp2" / "deep"
    assert found.other_runs == (tmp_path / "exp1",)


def test_traces_in_the_directory_itself_win_over_those_below(tmp_path: Path) -> None:
    write(tmp_path / "w.100.pt.trace.json")
    write(tmp_path / "below" / "w.200.pt.trace.json")
    assert find_traces(tmp_path).run == tmp_path


def test_a_directory_without_traces_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match="it is empty"):
        find_traces(tmp_path)
    write(tmp_path / "config.json")
    (tmp_path / "below").mkdir()
    with pytest.raises(NotATraceError, match=r"contains no trace: it holds below/, config\.json:"):
        find_traces(tmp_path)
    for i in range(8):
        write(tmp_path / f"part{i}.csv")
    with pytest.raises(NotATraceError, match=r"part2\.csv and 5 more:"):
        find_traces(tmp_path)
    with pytest.raises(NotATraceError, match="is not a directory"):
        find_traces(tmp_path / "none")


HEADS = (
    '{"schemaVersion": 1, "traceEvents": []}',
    '[{"name": "aten::mm", "ph": "X", "ts": 1}]',
    '{"traceEvents" : []}',
)


@pytest.mark.parametrize("head", HEADS)
def test_traces_of_other_names_are_known_by_how_they_begin(tmp_path: Path, head: str) -> None:
    for rank in (10, 2, 0):
        write(tmp_path / f"rank{rank}.json").write_text(head)
    write(tmp_path / "report.json").write_text('{"schema": 1, "tool": "mfu-doctor"}')
    write(tmp_path / "broken.json.gz").write_bytes(b"\x1f\x8b\x08 no more")
    found = find_traces(tmp_path)
    assert [t.worker for t in found.ranks] == ["rank0", "rank2", "rank10"]


def test_a_packed_trace_below_is_found_and_torchs_own_names_come_first(tmp_path: Path) -> None:
    below = write(tmp_path / "run" / "trace.json.gz")
    below.write_bytes(gzip.compress(HEADS[0].encode()))
    assert find_traces(tmp_path).chosen.path == below
    own = write(tmp_path / "deep" / "er" / "w.pt.trace.json")
    assert find_traces(tmp_path).chosen.path == own


@pytest.mark.parametrize("newest", ["w.pt.trace.json", "w.pt.trace.json.gz"])
def test_the_file_written_last_is_taken_whichever_is_listed_first(tmp_path: Path, newest: str) -> None:
    for name in ("w.pt.trace.json", "w.pt.trace.json.gz"):
        write(tmp_path / name, written=9 if name == newest else 5)
    assert find_traces(tmp_path).chosen.path.name == newest


def test_names_may_hold_digits_that_are_no_decimals(tmp_path: Path) -> None:
    for name in ("rank²", "rank10", "rank٣"):  # a superscript, and a three in Arabic
        write(tmp_path / f"{name}.pt.trace.json.gz")
    assert {t.worker for t in find_traces(tmp_path).ranks} == {"rank²", "rank10", "rank٣"}
