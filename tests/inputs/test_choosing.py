"""Which traces of a directory are the ranks of one run: the newest run, never a mixture; and what is said of the rest."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.inputs.choose import choose_trace
from mfu_doctor.inputs.ranks import find_ranks, names_many

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
    assert choose_trace([tmp_path]).location == str(path)
    assert choose_trace([tmp_path]).notes == (f"reporting on {path}",)


def test_the_lowest_rank_of_a_run_and_one_line_about_the_others(tmp_path: Path) -> None:
    files = [write(tmp_path, f"rank{rank}.pt.trace.json.gz", at=NOW - rank) for rank in (2, 10, 0)]
    chosen = choose_trace([tmp_path])
    assert chosen.location == str(files[2])
    others = "other ranks of this run: rank2.pt.trace.json.gz, rank10.pt.trace.json.gz; all of them together: "
    assert chosen.notes == (f"reporting on {files[2]} (rank 0)", f"{others}mfu-doctor report {tmp_path}")
    assert [file.rank for file in find_ranks([tmp_path]).ranks] == [0, 2, 10]
    assert choose_trace([tmp_path], 10).location == str(files[1])
    with pytest.raises(DoctorError, match=r"no trace of rank 5: there are traces of rank 0, 2, 10"):
        choose_trace([tmp_path], 5)


def test_ranks_are_known_from_the_files_where_names_do_not_tell(tmp_path: Path) -> None:
    """torch names files by host and process, and the process with the lowest number need not be rank 0."""
    one = write(tmp_path, f"host_100.{NOW}.pt.trace.json.gz", rank=1)
    zero = write(tmp_path, f"host_200.{NOW - 10**9}.pt.trace.json", rank=0)
    chosen = choose_trace([tmp_path])
    assert chosen.location == str(zero)
    assert one.name in chosen.notes[1]


def test_a_number_in_the_name_is_no_rank_where_the_content_tells(tmp_path: Path) -> None:
    """Of three ranks of a LoRA of rank 8, two were taken for older traces of the first."""
    files = [write(tmp_path, f"lora_rank8_w{rank}.json.gz", at=NOW + rank, rank=rank) for rank in (0, 2, 3)]
    for sources in ([tmp_path], [str(tmp_path / "*.json.gz")]):
        found = find_ranks(sources)
        assert [(file.location, file.rank) for file in found.ranks] == [
            (str(path), rank) for path, rank in zip(files, (0, 2, 3), strict=True)
        ]
        assert not found.doubles
        assert not found.others


def test_a_name_with_two_ranks_tells_none(tmp_path: Path) -> None:
    for rank in (0, 1):
        write(tmp_path, f"lora_rank8_rank{rank}.json")
    found = find_ranks([f"{tmp_path}/*.json"])
    assert [file.rank for file in found.ranks] == [None, None]
    assert not found.doubles


def test_a_program_profiled_twice_is_two_runs_and_the_newer_is_taken(tmp_path: Path) -> None:
    """A new process is a new worker: once the one with the lower process number was reported as if it were rank 0."""
    old = write(tmp_path, f"host_100.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path, f"host_200.{NOW}.pt.trace.json")
    chosen = choose_trace([tmp_path])
    assert chosen.location == str(new)
    assert chosen.notes == (
        f"reporting on {new} (newest run in this directory)",
        f"other runs in this directory: {old.name}",
    )


def test_ranks_of_an_older_run_are_not_mixed_in(tmp_path: Path) -> None:
    stale = [write(tmp_path, f"host_{rank}.{NOW - 60 * MINUTE}.pt.trace.json", rank=rank) for rank in (0, 1)]
    again = [write(tmp_path, f"host_9{rank}.{NOW + rank}.pt.trace.json", rank=rank) for rank in (0, 1)]
    chosen = choose_trace([tmp_path])
    assert chosen.location == str(again[0])
    assert again[1].name in chosen.notes[1]
    assert not any(file.name in chosen.notes[1] for file in stale)
    assert all(file.name in chosen.notes[2] for file in stale)


def test_spans_in_milliseconds_are_times_too(tmp_path: Path) -> None:
    """Older torch wrote milliseconds; they must not look older than any time in nanoseconds."""
    old = write(tmp_path, f"a_1.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path, f"b_2.{NOW // 10**6}.pt.trace.json")
    assert choose_trace([tmp_path]).location == str(new)
    assert old.name in choose_trace([tmp_path]).notes[1]


def test_above_several_runs_the_newest_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    write(tmp_path / "exp1", f"w_1.{NOW - MINUTE}.pt.trace.json")
    new = write(tmp_path / "exp2", f"w_1.{NOW}.pt.trace.json")
    chosen = choose_trace([tmp_path])
    assert chosen.location == str(new)
    assert chosen.notes[1] == f"other runs in this directory: {tmp_path / 'exp1'}"


def test_many_others_are_counted_not_listed(tmp_path: Path) -> None:
    for rank in range(20):
        write(tmp_path, f"rank{rank}.pt.trace.json")
    assert "rank5.pt.trace.json and 14 more" in choose_trace([tmp_path]).notes[1]


def test_a_directory_without_traces_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match=r"contains no trace: it is empty"):
        choose_trace([tmp_path])


def test_files_that_are_named_belong_together_whenever_they_were_written(tmp_path: Path) -> None:
    files = [write(tmp_path, f"rank{rank}.pt.trace.json", at=NOW - rank * 3600 * 10**9) for rank in (1, 0)]
    assert [file.rank for file in find_ranks([str(file) for file in files]).ranks] == [0, 1]
    assert [file.rank for file in find_ranks([f"{tmp_path}/rank*.json"]).ranks] == [0, 1]


def test_of_two_traces_of_one_rank_the_newer_is_read_and_the_other_named(tmp_path: Path) -> None:
    old = write(tmp_path / "a", "rank0.json", at=NOW - MINUTE)
    new = write(tmp_path / "b", "rank0.json")
    found = find_ranks([str(old), str(new)])
    assert [file.location for file in found.ranks] == [str(new)]
    assert [file.location for file in found.doubles] == [str(old)]


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match="nothing matches"):
        find_ranks([f"{tmp_path}/*.json"])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "run[1].json")
    assert not names_many([str(path)])
    assert [file.location for file in find_ranks([str(path)]).ranks] == [str(path)]


def test_ranks_in_a_store_are_found_as_in_a_directory() -> None:
    fsspec = pytest.importorskip("fsspec", reason="stores are read by fsspec, which is not installed")
    store = fsspec.filesystem("memory")
    for name in ("old/rank0", "new/rank0", "new/rank1"):
        store.pipe(f"/choosing/{name}.pt.trace.json", b'{"traceEvents": []}')
    found = find_ranks(["memory://choosing/new/"])
    assert [(file.rank, file.location) for file in found.ranks] == [
        (rank, f"memory:///choosing/new/rank{rank}.pt.trace.json") for rank in (0, 1)
    ]
    newest = find_ranks(["memory://choosing/"])
    assert [file.rank for file in newest.ranks] == [0, 1]
    assert newest.others == ("memory:///choosing/old",)
    assert len(find_ranks(["memory://choosing/new/rank*.json"]).ranks) == 2
    with pytest.raises(NotATraceError, match="contains no trace"):
        find_ranks(["memory://choosing/none/"])


@pytest.mark.parametrize("address", ["nosuch://bucket/run", "s3://bucket/run"])
def test_a_store_that_cannot_be_read_is_one_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DoctorError, match=r"cannot be opened|needs the package fsspec"):
        find_ranks([address])


def test_without_fsspec_an_address_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DoctorError, match=r"needs the package fsspec: pip install 'mfu-doctor\[remote\]'"):
        find_ranks(["memory://choosing/new/"])
