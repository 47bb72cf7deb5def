"""A report that another process makes while the training goes on, so that no step waits for it.

That process is no child of this one: a program that waits for any child of its own must not meet ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.patience import joined
from mfu_doctor.session.report_process import CODE, Made

# Set beside the program's own environment: one thread for each library that would take a core for each of its own.
_ALONE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_AT_MOST_S = 1.0  # from its end until that is noticed
_LAST_WORDS = 300  # characters of what a failing process wrote
# The shell ends at once, and what it started goes on with the trace as its input.
_LET_GO = ("/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh")


class Beside:
    """One such process. It shares no memory with this one, which may have threads and devices, and is behind it in priority.

    Args:
        path: the trace.
        folder: where the program was started; None: deleted.
        places: where modules are found.
        made: called once, in a thread of its own, with the report, if there is one.

    Attributes:
        notes: why there is no report.
        took_s: how long it took; None before it is there.
    """

    def __init__(self, path: Path, folder: Path | None, places: Sequence[str], made: Callable[[Made], None]) -> None:
        self.notes = Notes()
        self.took_s: float | None = None
        self._began, self._made, self._stopped = time.monotonic(), made, False
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open until the process has ended
        words = [sys.executable, "-P", "-c", CODE, str(path), "" if folder is None else str(folder), *places]
        with path.open("rb") as trace, _unheard():
            self._shell = subprocess.Popen(  # noqa: S603 - our own words
                [*_LET_GO, *words],
                stdin=trace,
                stdout=subprocess.PIPE,
                stderr=self._said,
                cwd=folder,
                env=os.environ | _ALONE,
                start_new_session=True,  # Ctrl-C is for the training
            )
            self._shell.wait()
        self._waiter = threading.Thread(target=self._wait, name="mfu-doctor-report", daemon=True)
        self._waiter.start()

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._began

    def finish(self, patience_s: float) -> bool:
        """Wait for it so long at most; returns whether it has ended. Ctrl-C ends the wait."""
        return joined(self._waiter, patience_s)

    def stop(self) -> None:
        """Nobody wants it any more."""
        self._stopped = True
        if self.took_s is None:  # else its number may be another one's by now
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
        joined(self._waiter, _AT_MOST_S)  # a child that was forked meanwhile may hold the pipe open

    def _wait(self) -> None:
        told = self._shell.stdout
        assert told is not None
        with told, self._said as said:
            written = told.read()
            self.took_s = self.seconds
            if self._stopped:
                return
            said.seek(0)
            made = self.notes.guarded("the report could not be made beside the training", _read, written, said.read())
        if made is not None:
            self.notes.guarded("the report could not be shown", self._made, made)


@contextmanager
def _unheard() -> Iterator[None]:
    """The program's handler of ended children, which may wait for any, does not hear of ours; of its own it hears afterwards."""
    handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    with suppress(ChildProcessError):  # there is none at all
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            signal.raise_signal(signal.SIGCHLD)


def _read(written: bytes, said: bytes) -> Made:
    if not written:
        raise OSError(f"its process wrote nothing: {said.decode(errors='replace').strip()[-_LAST_WORDS:]}")
    return Made.read(written)
