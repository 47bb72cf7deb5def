"""Ranks are read where an executor of `concurrent.futures` runs them: processes of this machine, or a Dask cluster.

A worker that dies takes no rank with it: what it had begun is read once more, each rank in a process of its own. A rank whose
reading has then ended two processes is left out. So one that is too large for the memory costs itself and no other.

A process that is no copy of this one begins by running the main module again. A user's script may train there, so for it none
is started.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from mfu_doctor.capture.facts.cores import processes_at_once
from mfu_doctor.capture.facts.host import memory_available
from mfu_doctor.errors import DoctorError
from mfu_doctor.job.read_rank import RankTask, left_out, read_rank
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.reading.remote import is_address
from mfu_doctor.reading.source import TYPICAL_EXPANSION, Source
from mfu_doctor.result.job import RankLeftOut

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")
Outcome = RankSummary | RankLeftOut
Progress = Callable[[int, int], None]

# What a process needs at most while it reads a rank: what it has loaded, and this many times the plain bytes of the trace.
_PROCESS_BYTES, _PER_PLAIN_BYTE = 100 << 20, 0.5  # 0.3 for a trace of 500 MB, see benchmarks/reading.py
_DIED = "the process that read it ended twice, most likely for lack of memory"


def read_all(tasks: Sequence[RankTask], executor: Executor | None, progress: Progress | None = None) -> list[Outcome]:
    """Read every rank.

    Args:
        tasks: the ranks.
        executor: where to read them; None: here, in as many processes as there are cores and memory for, or in this one if
            another would run a user's script again.
        progress: called with the number of ranks that are done, and of all.

    Returns:
        What became of each task, in their order, whoever read it and when.
    """
    reading = _Reading(tasks, progress)
    if executor is not None:
        reading.run(executor, at_once=len(tasks))
    if reading.rest and (_runs_script_again() or (executor is None and processes_for(tasks) == 1)):
        from concurrent.futures import ThreadPoolExecutor  # cannot be imported while Python exits

        with ThreadPoolExecutor(1) as here:
            reading.run(here, at_once=1)
    while reading.rest:
        processes = processes_for([tasks[i] for i in reading.rest])
        with _pool(processes) as pool:
            reading.run(pool, at_once=processes)
        for index in reading.suspects:
            with _pool(1) as pool:
                reading.run(pool, at_once=1, only=index)
    return [reading.done[i] for i in range(len(tasks))]


class InPlace(Executor):
    """Reads in the thread that asks. It starts nothing, so it works even while Python exits; an error is raised at once."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it now; the future is done."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The executor of a Dask cluster.

    Args:
        address: of its scheduler, such as tcp://10.0.0.1:8786.

    Raises:
        DoctorError: `distributed` is not installed, or nothing answers there.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise DoctorError("--dask needs the package distributed", "pip install 'mfu-doctor[cluster]'") from None
    try:
        client = distributed.Client(address)
    except (OSError, ValueError) as error:
        raise DoctorError(f"no Dask scheduler answers at {address} ({error})", "check the address") from error
    with client:
        yield client.get_executor(pure=False)


def processes_for(tasks: Sequence[RankTask]) -> int:
    """How many processes may read these ranks at once: no more than cores, than ranks, or than fit into the free memory."""
    free = memory_available()
    most = min(processes_at_once(), len(tasks))
    if free is not None and tasks:
        largest = _plain_bytes(max(tasks, key=lambda task: task.size_bytes))
        most = min(most, int(free // (_PROCESS_BYTES + _PER_PLAIN_BYTE * largest)))
    return max(most, 1)


class _Reading:
    """The ranks that are done, and those that are not.

    Args:
        tasks: all of them.
        progress: see `read_all`.
    """

    def __init__(self, tasks: Sequence[RankTask], progress: Progress | None) -> None:
        self._tasks, self._progress = tasks, progress
        self.done: dict[int, Outcome] = {}
        self.suspects: list[int] = []  # begun by a process that died, and not read since

    @property
    def rest(self) -> list[int]:
        """Tasks nobody has read, the largest first, so that no process is left with a large one at the end."""
        left = [i for i in range(len(self._tasks)) if i not in self.done]
        return sorted(left, key=lambda i: -self._tasks[i].size_bytes)

    def run(self, executor: Executor, *, at_once: int, only: int | None = None) -> None:
        """Read the rest until it is done or a worker has died; then what was begun is suspect.

        Args:
            executor: who reads.
            at_once: ranks that are handed to it at a time.
            only: read this suspect alone.
        """
        waiting = self.rest if only is None else [only]
        begun: dict[Future[Outcome], int] = {}
        lost: list[int] = []
        while waiting or begun:
            try:
                while waiting and len(begun) < at_once:
                    begun[executor.submit(read_rank, self._tasks[waiting[0]])] = waiting[0]
                    waiting.pop(0)
            except BrokenExecutor:
                waiting.clear()  # what is begun tells what became of it
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                index = begun.pop(future)
                if _is_lost(future):
                    lost.append(index)
                    waiting.clear()
                else:
                    self._is_done(index, self._outcome(future, index))
        if only is None:
            self.suspects = sorted(lost)
        elif lost:
            self._is_done(only, left_out(self._tasks[only], _DIED))

    def _outcome(self, future: Future[Outcome], index: int) -> Outcome:
        error = future.exception()
        if error is None:
            return future.result()
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(": ")
        return left_out(self._tasks[index], f"it could not be read ({words})")

    def _is_done(self, index: int, outcome: Outcome) -> None:
        self.done[index] = outcome
        if self._progress is not None:
            self._progress(len(self.done), len(self._tasks))


def _is_lost(future: Future[Outcome]) -> bool:
    """Whether nobody will ever know: the worker died, or the cluster went away."""
    return future.cancelled() or isinstance(future.exception(), BrokenExecutor)


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of this machine; on an error (Ctrl-C) what was not begun is dropped."""
    from concurrent.futures import ProcessPoolExecutor  # cannot be imported while Python exits

    pool = ProcessPoolExecutor(processes, mp_context=_context())
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _context() -> BaseContext:
    """How processes start: as copies of this one, unless other threads of it may hold locks that a copy would never get.

    A copy needs no guarded main module, and has loaded what it needs.
    """
    return multiprocessing.get_context("fork" if _can_be_copied() else "spawn")


def _can_be_copied() -> bool:
    return threading.active_count() == 1 and sys.platform == "linux"


def _runs_script_again() -> bool:
    """Whether a new process would run the main module of a user: it is a file, and not that of our command line."""
    main = sys.modules.get("__main__")
    # However our command line is started, the main module has its `main`, which is of this package.
    start = getattr(main, "main", None)
    ours = str(getattr(start, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]
    return not (_can_be_copied() or ours) and getattr(main, "__file__", None) is not None


def _plain_bytes(task: RankTask) -> int:
    """The plain size of a trace; of one in a store, which would have to be fetched for it, an estimate."""
    if is_address(task.location):
        return task.size_bytes * (TYPICAL_EXPANSION if task.location.endswith(".gz") else 1)
    try:
        with Source(task.location) as source:
            return source.plain_size or source.expected_size
    except DoctorError:
        return 0  # whoever reads it says what is wrong
