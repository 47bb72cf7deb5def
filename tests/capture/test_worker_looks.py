"""Worker processes of a loader are looked at while they load: their own lines, however they are started, and no batch changes."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.data._utils import worker

import mfu_doctor
from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop import pipe_end, worker_looks
from mfu_doctor.capture.loop.pipe_end import PipeEnd, pipe_ends
from mfu_doctor.capture.loop.worker_looks import LookedAt, WorkerLooks
from mfu_doctor.capture.patience import joined
from mfu_doctor.facts import FrameSample
from tests.patience import LONGEST_S

THIS = "test_worker_looks.py"
LOOK = msgspec.json.encode(FrameSample(time_ns=1, place="a.py:1")) + b"\n"


# In a worker: the looks at `slow` since it was called last.
SEEN: list[FrameSample] = []


def slow(x: int) -> float:
    """On one line for a hundredth of a second or so, and in a worker that is looked at until it was seen there."""
    until = time.perf_counter() + 0.02
    while time.perf_counter() < until or is_to_be_seen():
        sum(range(20_000))
    SEEN.clear()
    return float(x)


def is_to_be_seen() -> bool:
    return not SEEN and any(thread.name == "mfu-doctor-worker" for thread in threading.enumerate())


def telling(*args: Any, own: Callable[..., FrameSample | None] = worker_looks._sample) -> FrameSample | None:
    """Look, and keep it if it is one at `slow` itself, in no function of its own."""
    sample = own(*args)
    if sample is not None and sample.within and sample.within[0].name == "slow":
        SEEN.append(sample)
    return sample


class Slow(Dataset[torch.Tensor]):
    """Makes each sample in `slow`; in a worker each of them is seen, however busy the machine is."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> torch.Tensor:
        if torch.utils.data.get_worker_info() is not None:
            looking: Any = worker_looks
            looking._sample = telling
        return torch.tensor([slow(index)])


class Unwatched(Slow):
    """Whether the worker is looked at no more: each sample but the first waits for that."""

    def __getitem__(self, index: int) -> torch.Tensor:
        watching = [thread for thread in threading.enumerate() if thread.name == "mfu-doctor-worker"]
        if index:
            for thread in watching:
                thread.join(LONGEST_S if index == 1 else 0.0)
        return torch.tensor([not any(thread.is_alive() for thread in watching)])


def ends_by_a_broken_pipe(_: int) -> None:
    """As programs do that are made to be piped into `head`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def batches(method: str, workers: int = 2) -> list[Any]:
    loader = DataLoader(Slow(), batch_size=4, num_workers=workers, multiprocessing_context=method)
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_lines_of_workers_are_seen(method: str) -> None:
    looks, before = WorkerLooks(None, Notes()), worker._worker_loop
    looks.start()
    try:
        found = batches(method)
    finally:
        seen = looks.stop()
    assert found == [[[float(4 * i + k)] for k in range(4)] for i in range(8)]
    assert worker._worker_loop is before
    lines = {sample.place for sample in seen}
    begin = slow.__code__.co_firstlineno
    assert lines & {f"{THIS}:{begin + n}" for n in (2, 3, 4)}
    inside = {tuple(function.name for function in sample.within) for sample in seen if sample.within}
    assert ("slow", "Slow.__getitem__") in inside
    assert not any("batches" in names for names in inside)
    # not the loop of the process that a forked one comes from
    made = batches.__code__.co_firstlineno
    assert not lines & {f"{THIS}:{made + n}" for n in range(3)}
    assert looks.stop() == ()


def test_a_worker_whose_looks_nobody_reads_loads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_looks, "_PERIOD_S", 0.0005)
    looks = WorkerLooks(None, Notes())
    looks.start()
    loader = iter(DataLoader(Slow(), batch_size=4, num_workers=1, multiprocessing_context="fork"))
    first = next(loader)
    looks.stop()
    assert first.tolist() == [[0.0], [1.0], [2.0], [3.0]]
    assert len(list(loader)) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_worker_is_not_looked_at_after_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_looks, "_PERIOD_S", 0.1)
    looks = WorkerLooks(None, Notes())
    looks.start()
    data = DataLoader(Unwatched(), num_workers=1, multiprocessing_context="fork", worker_init_fn=ends_by_a_broken_pipe)
    loader = iter(data)
    assert next(loader).tolist() == [[False]]
    looks.stop()
    assert [batch.item() for batch in loader] == [True] * 31


def test_a_worker_that_is_started_anew_after_the_recording_is_the_programs_own() -> None:
    looks = WorkerLooks(None, Notes())
    looks.start()
    kept: Any = worker._worker_loop
    looks.stop()
    make, args = kept.__reduce__()
    assert make(*args) is worker._worker_loop


def filled(looks: WorkerLooks) -> int:
    """Fill the pipe; returns with how many lines."""
    assert looks._pipe is not None
    with suppress(BlockingIOError):
        for count in range(1 << 16):
            os.write(looks._pipe[1].number, b'"full"\n' if count else LOOK)
    return count


def test_a_full_pipe_costs_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_looks, "_PERIOD_S", 0.0)
    looks = WorkerLooks(None, Notes())
    looks.start()
    filled(looks)
    assert len(batches("fork", workers=1)) == 8
    assert len(looks.stop()) == 1


def test_a_pipe_that_was_full_is_used_again_once_it_is_read() -> None:
    looks = WorkerLooks(None, Notes())
    looks.start()
    filled(looks)
    loader = iter(DataLoader(Slow(), batch_size=4, num_workers=1, multiprocessing_context="fork"))
    next(loader)
    looks.read()
    read_ns = time.time_ns()
    assert len(list(loader)) == 7
    assert any(sample.time_ns > read_ns for sample in looks.stop())


def test_many_workers_fill_the_pipe_often_and_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_looks, "_READ_EVERY_NS", 0)
    notes = Notes()
    looks = WorkerLooks(None, notes)
    looks.start()
    for _ in range(5):
        filled(looks)
        looks.read()
    assert len(looks.stop()) == 5
    assert notes.said == ["full"]


def test_batches_that_come_fast_are_no_reason_to_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_looks, "time", SimpleNamespace(monotonic_ns=lambda: 1 << 60))  # no time passes
    looks = WorkerLooks(None, Notes())
    looks.start()
    filled(looks)
    looks.read()
    count = filled(looks)
    looks.read()
    assert filled(looks) == 0
    assert count > 1
    assert len(looks.stop()) == 2


def test_a_recording_reads_what_workers_tell_while_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[None] = []
    monkeypatch.setattr(WorkerLooks, "read", lambda _: read.append(None))
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mfu_doctor.profile(tmp_path / "out.pt.trace.json.gz", print_report=False):
        for (x,) in DataLoader(TensorDataset(torch.ones(24, 1)), 4):
            model(x).sum().backward()
            optimizer.step()
    assert len(read) >= 6


def test_what_fails_in_a_worker_is_said_and_costs_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LookupError("no such line")

    monkeypatch.setattr(worker_looks, "line_of", fails)
    notes = Notes()
    looks = WorkerLooks(None, notes)
    looks.start()
    assert len(batches("fork", workers=1)) == 8
    assert looks.stop() == ()
    assert notes.said == ["a worker could not be looked at: LookupError: no such line"]


def test_the_process_that_trains_is_not_looked_at() -> None:
    began: list[str] = []

    def names() -> None:
        began.extend(t.name for t in threading.enumerate())

    LookedAt(names, None, None, os.getpid())()  # type: ignore[arg-type]
    assert "mfu-doctor-worker" not in began


def test_what_a_worker_raises_is_what_it_raised() -> None:
    def broken() -> None:
        raise ValueError("theirs")

    read_end, pipe = pipe_ends()
    with read_end, pytest.raises(ValueError, match="theirs"):
        LookedAt(broken, pipe, None, None)()
    looking = [thread for thread in threading.enumerate() if thread.name == "mfu-doctor-worker"]
    assert all(joined(thread, LONGEST_S) for thread in looking)
    assert pipe.closed  # by the thread that wrote to it


def test_a_look_at_a_worker_that_ends_meanwhile_is_not_told() -> None:
    class EndsMeanwhile(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

        def is_set(self) -> bool:
            return True

    read_end, pipe = pipe_ends()
    with read_end:
        worker_looks._look(threading.get_ident(), pipe, None, EndsMeanwhile())
        assert os.read(read_end.number, 1) == b""


def test_it_is_started_anew_by_its_name() -> None:
    read_end, pipe = pipe_ends()
    with read_end, pipe:
        make, args = LookedAt(lambda: None, pipe, None, os.getpid()).__reduce__()
        assert make(*args)._original is worker._worker_loop
    make, args = LookedAt(lambda: None, pipe, None, os.getpid()).__reduce__()
    assert make(*args) is worker._worker_loop


def test_a_program_that_closes_every_descriptor_keeps_what_it_opens_then(tmp_path: Path) -> None:
    """Its files get the numbers of our pipe: nothing is read from them, and they are not closed."""
    notes = Notes()
    looks = WorkerLooks(None, notes)
    looks.start()
    kept: Any = worker._worker_loop
    assert looks._pipe is not None
    numbers = [end.number for end in looks._pipe]
    (tmp_path / "mine").write_text("theirs")
    with (tmp_path / "mine").open("rb") as mine:
        for number in numbers:
            os.dup2(mine.fileno(), number)
    _, args = kept.__reduce__()
    assert not args  # a worker that is started now is the program's own, and gets nothing of ours
    assert looks.stop() == ()
    assert os.read(numbers[0], 100) == b"theirs"
    for number in numbers:
        os.close(number)
    assert notes.said == ["what the loader's workers told could not be read: OSError: [Errno 9] the pipe is closed"]


def test_an_end_is_closed_once_by_however_many_threads() -> None:
    """A second close would be that of whatever was opened in between."""
    closed: list[int] = []
    ends = [end for _ in range(200) for end in pipe_ends()]
    together = threading.Barrier(2)

    def close_all() -> None:
        together.wait(LONGEST_S)
        for end in ends:
            end.close()

    numbers = sorted(end.number for end in ends)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipe_end, "os", SimpleNamespace(close=closed.append, fstat=os.fstat))
        threads = [threading.Thread(target=close_all) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in closed:
        os.close(number)
    assert sorted(closed) == numbers


def test_a_line_that_is_not_ours_loses_no_other() -> None:
    notes = Notes()
    looks = WorkerLooks(None, notes)
    looks.start()
    assert looks._pipe is not None
    for line in (LOOK, b"hello from another library\n", LOOK, b'{"time_ns": 1, "pla'):
        os.write(looks._pipe[1].number, line)
    assert len(looks.stop()) == 2
    assert notes.said == []


def test_an_end_that_cannot_be_had_is_closed_and_harms_no_worker(capsys: pytest.CaptureFixture[str]) -> None:
    class Gone:
        def detach(self) -> int:
            raise OSError("no such descriptor")

    read_end, write_end = pipe_ends()
    write_end.close()
    make, args = write_end.__reduce__()
    assert make(*args).closed
    make, _ = read_end.__reduce__()
    assert make(Gone()).closed
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipe_end, "DupFd", lambda _: Gone().detach())
        make, args = read_end.__reduce__()
        assert make(*args).closed
    read_end.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        PipeEnd(1 << 20)
    gc.collect()
    assert "Exception ignored" not in capsys.readouterr().err
