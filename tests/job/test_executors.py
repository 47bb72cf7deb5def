"""Ranks are read wherever an executor runs them, and a worker that dies takes none of them with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.job import executors
from mfu_doctor.job.executors import dask_executor, processes_for, read_all
from mfu_doctor.job.read_rank import RankTask, read_rank
from mfu_doctor.result.job import RankLeftOut
from tests.job.drawn_traces import write_job


def task(location: str, rank: int = 0, size_bytes: int = 1) -> RankTask:
    return RankTask(location, rank, size_bytes, Overrides(), Settings())


def named(told: RankTask) -> RankLeftOut:
    """Stands for reading: fast, and tells which task it had and where."""
    return RankLeftOut(reason=told.location, rank=told.rank)


TESTS = os.getpid()


def die() -> None:
    """Kill this process, which is never that of the tests."""
    assert os.getpid() != TESTS, "a rank was read in the process of the tests"
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(told: RankTask) -> RankLeftOut:
    """The process that reads rank 2 first is killed; the next one reads it."""
    mark = Path(told.location)
    if told.rank == 2 and not mark.exists():
        mark.write_text("")
        die()
    return named(told)


def always_dies(told: RankTask) -> RankLeftOut:
    if told.rank == 2:
        die()
    return named(told)


def raises(told: RankTask) -> RankLeftOut:
    if told.rank == 1:
        raise ValueError("no such thing\nand more")
    return named(told)


def read_with(
    reader: Any,
    tasks: list[RankTask],
    monkeypatch: pytest.MonkeyPatch,
    *,
    processes: int,
    executor: Executor | None = None,
) -> list[Any]:
    monkeypatch.setattr(executors, "read_rank", reader)
    monkeypatch.setattr(executors, "processes_for", lambda tasks: processes)
    monkeypatch.setattr(executors, "_can_be_copied", lambda: True)  # whatever threads earlier tests have left
    return read_all(tasks, executor)


TASKS = [task(f"{rank}.json", rank, size_bytes=rank % 3) for rank in range(7)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_order_is_that_of_the_tasks(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_with(named, TASKS, monkeypatch, processes=processes)
    assert [outcome.rank for outcome in read] == list(range(7))


def test_any_executor_of_the_standard_protocol_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(2) as pool:
        read = read_with(named, TASKS, monkeypatch, processes=1, executor=pool)
    assert [outcome.rank for outcome in read] == list(range(7))


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task(str(tmp_path / "mark"), rank) for rank in range(6)]
    read = read_with(dies_once, tasks, monkeypatch, processes=2)
    assert [outcome.rank for outcome in read] == list(range(6))
    assert all("ended twice" not in outcome.reason for outcome in read)


def test_a_rank_that_ends_two_processes_is_left_out_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_with(always_dies, TASKS, monkeypatch, processes=2)
    assert [outcome.rank for outcome in read if "ended twice" in outcome.reason] == [2]
    assert [outcome.reason for outcome in read if outcome.rank != 2] == [
        f"{rank}.json" for rank in range(7) if rank != 2
    ]


def test_what_a_broken_executor_of_the_user_leaves_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [task(str(tmp_path / "mark"), rank) for rank in range(4)]
    with ProcessPoolExecutor(2, mp_context=executors._context()) as pool:
        read = read_with(dies_once, tasks, monkeypatch, processes=2, executor=pool)
    assert [outcome.rank for outcome in read] == list(range(4))


def test_what_a_cancelled_executor_leaves_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Executor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    read = read_with(named, TASKS, monkeypatch, processes=2, executor=Gone())
    assert [outcome.rank for outcome in read] == list(range(7))


def test_an_error_of_one_rank_is_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_with(raises, TASKS, monkeypatch, processes=2)
    assert read[1].reason == "it could not be read (ValueError: no such thing)"
    assert len(read) == len(TASKS)


def test_progress_counts_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "read_rank", named)
    monkeypatch.setattr(executors, "processes_for", lambda tasks: 2)
    seen: list[tuple[int, int]] = []
    read_all(TASKS, None, lambda done, of: seen.append((done, of)))
    assert seen == [(done, 7) for done in range(1, 8)]


def test_a_file_that_is_no_trace_is_left_out_with_its_reason(tmp_path: Path) -> None:
    bad = tmp_path / "rank3.json"
    bad.write_text("")
    read = read_rank(task(str(bad), 3))
    assert read == RankLeftOut(reason="rank3.json is empty", rank=3, trace="rank3.json")
    gone = read_rank(task(str(tmp_path / "rank4.json"), 4))
    assert isinstance(gone, RankLeftOut)
    assert "does not exist" in gone.reason


def test_no_more_processes_than_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rank0.json"
    path.write_bytes(b" " * (1 << 20))
    monkeypatch.setattr(executors, "processes_at_once", lambda: 16)
    for free, fitting in ((1 << 40, 8), (3 * 110 << 20, 3), (1, 1), (None, 8)):
        monkeypatch.setattr(executors, "memory_available", lambda free=free: free)
        assert processes_for([task(str(path), rank) for rank in range(8)]) == fitting


UNGUARDED = """
import sys, threading
import mfu_doctor
from mfu_doctor.job import executors

print("trains", flush=True)
executors.processes_for = lambda tasks: 2
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(len(mfu_doctor.diagnose_job(sys.argv[1]).ranks), "ranks", flush=True)
"""


def test_a_script_with_threads_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(UNGUARDED)
    folder = write_job(tmp_path / "run", 2)
    ran = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert ran.stdout.split("\n") == ["trains", "2 ranks", ""], ran.stderr


@pytest.mark.parametrize("ours", [True, False])
def test_the_command_line_may_be_run_again(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from mfu_doctor.cli.main import main

    module = ModuleType("__main__")
    module.__dict__.update(__file__="mfu-doctor", **({"main": main} if ours else {}))
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(executors, "_can_be_copied", lambda: False)
    assert executors._runs_script_again() is not ours


def test_dask_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DoctorError, match=r"pip install 'mfu-doctor\[cluster\]'"), dask_executor("tcp://127.0.0.1:1"):
        pass
