"""Which trace of a directory is reported on: the newest run, its lowest rank, never a mixture; and what is said of the rest."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from mfu_doctor.errors import NotATraceError
from mfu_doctor.inputs.choose import choose_trace

MINUTE = 60 * 10**9
NOW = 1_795_499_893_190_429_825


def write(folder: Path, name: str, *, at: int = NOW, rank: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    told = "" if rank is None else f'"distributedInfo": {{"backend": "nccl", "rank": {rank}, "world_size": 8}}, '
    text = f'{{"schemaVersion": 1, "deviceProperties": [{{"id": 0}}], {told}"traceEvents": []}}'
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    os.utime(path, ns=(at, at))
    return path


def test_the_only_trace_needs_no_explanation(tmp_path: Path) -> None:
    path = write(tmp_path, "host_1.pt.trace.json")
    assert choose_trace(tmp_path).path == path
    assert choose_trace(tmp_path).notes == (f"reporting on {path}",)


def test_the_lowest_rank_of_a_run_and_one_line_about_the_others(tmp_path: Path) -> None:
    files = [write(tmp_path, f"rank{rank}.pt.trace.json.gz", at=NOW - rank) for rank in (2, 10, 0)]
    chosen = choose_trace(tmp_path)
    assert chosen.path == files[2]
    others = "other ranks of this run: rank2.pt.trace.json.gz, rank10.pt.trace.json.gz; to report on one of them: "
    assert chosen.notes == (f"reporting on {files[2]} (rank 0)", f"{others}mfu-doctor report {files[0]}")


def test_ranks_are_known_from_the_files_where_names_do_not_tell(tmp_path: Path) -> None:
    """torch names files by host and process, and the process with the lowest number need not be rank 0."""
    one = write(tmp_path, f"host_100.{NOW}.pt.trace.json.gz", rank=1)
    zero = write(tmp_path, f"host_200.{NOW - 10**9}.pt.trace.json", rank=0)
    chosen = choose_trace(tmp_path)
    assert chosen.path == zero
    assert one.name in chosen.notes[1]


def test_a_program_profiled_twice_is_two_runs_and_the_newer_is_taken(tmp_path: Path) -> None:
    """A new process is a new worker: once the one with the lower process number was reported as if it were rank 0."""
    old = write(tmp_path, f"host_100.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path, f"host_200.{NOW}.pt.trace.json")
    chosen = choose_trace(tmp_path)
    assert chosen.path == new
    assert chosen.notes == (
        f"reporting on {new} (newest run in this directory)",
        f"other runs in this directory: {old.name}",
    )


def test_ranks_of_an_older_run_are_not_mixed_in(tmp_path: Path) -> None:
    stale = [write(tmp_path, f"host_{rank}.{NOW - 60 * MINUTE}.pt.trace.json", rank=rank) for rank in (0, 1)]
    again = [write(tmp_path, f"host_9{rank}.{NOW + rank}.pt.trace.json", rank=rank) for rank in (0, 1)]
    chosen = choose_trace(tmp_path)
    assert chosen.path == again[0]
    assert again[1].name in chosen.notes[1]
    assert not any(file.name in chosen.notes[1] for file in stale)
    assert all(file.name in chosen.notes[2] for file in stale)


def test_spans_in_milliseconds_are_times_too(tmp_path: Path) -> None:
    """Older torch wrote milliseconds; they must not look older than any time in nanoseconds."""
    old = write(tmp_path, f"a_1.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path, f"b_2.{NOW // 10**6}.pt.trace.json")
    assert choose_trace(tmp_path).path == new
    assert old.name in choose_trace(tmp_path).notes[1]


def test_above_several_runs_the_newest_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    write(tmp_path / "exp1", f"w_1.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path / "exp2", f"w_1.{NOW}.pt.trace.json")
    chosen = choose_trace(tmp_path)
    assert chosen.path == new
    assert chosen.notes[1] == f"other runs in this directory: {tmp_path / 'exp1'}"


def test_many_others_are_counted_not_listed(tmp_path: Path) -> None:
    for rank in range(20):
        write(tmp_path, f"rank{rank}.pt.trace.json")
    assert "rank5.pt.trace.json and 14 more" in choose_trace(tmp_path).notes[1]


def test_a_directory_without_traces_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match=r"contains no trace: it is empty"):
        choose_trace(tmp_path)
