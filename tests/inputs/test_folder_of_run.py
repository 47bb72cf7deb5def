"""The folder of a trace is named as that of its run only if nothing else is in it."""

from __future__ import annotations

import json
from pathlib import Path

from mfu_doctor.inputs.ranks import folder_of_run, pattern_of_run


def write(folder: Path, *names: str) -> Path:
    for rank, name in enumerate(names):
        told = {"distributedInfo": {"rank": rank, "world_size": len(names)}, "traceEvents": []}
        (folder / name).write_text(json.dumps(told), encoding="utf-8")
    return folder / names[0]


def test_ranks_alone_are_a_run(tmp_path: Path) -> None:
    first = write(tmp_path, "rank0.json", "rank1.json")
    assert folder_of_run(str(first)) == str(tmp_path)
    assert folder_of_run(str(tmp_path)) == str(tmp_path)


def test_a_trace_of_another_program_beside_it_hides_the_folder(tmp_path: Path) -> None:
    """a100_dlrm_rank3of8 lay in a folder of traces of all kinds, and that folder was advised."""
    first = write(tmp_path, "dlrm_rank0of2.json", "resnet_rank1of2.json")
    assert folder_of_run(str(first)) is None


def test_one_rank_alone_is_no_folder_of_ranks(tmp_path: Path) -> None:
    assert folder_of_run(str(write(tmp_path, "rank0.json"))) is None
    assert folder_of_run(str(tmp_path / "gone.json")) is None
    assert folder_of_run("-") is None


def test_a_pattern_names_the_ranks_only_where_it_finds_another(tmp_path: Path) -> None:
    """A rank alone was told to report on `a_rank*of2.json`, and that gave the same report with the same advice."""
    alone = write(tmp_path, "a_rank0of2.json", "b_rank1of2.json")
    assert pattern_of_run(str(alone), 0) is None
    write(tmp_path, "a_rank0of2.json", "a_rank1of2.json")
    assert pattern_of_run(str(alone), 0) == f"{tmp_path}/a_rank*of2.json"
    assert pattern_of_run(str(alone), 3) is None
    assert pattern_of_run("s3://bucket/a_rank0of2.json", 0) is None
