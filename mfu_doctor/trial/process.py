"""One child process with all that it starts: begun in a group of its own, watched, and ended so that nothing of it is left.

Its processes are told by a token in their environment, wherever they have put themselves; where the system does not show the
environment of processes, by their group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from mfu_doctor.trial.child import COUNT_BYTES
from mfu_doctor.trial.orders import ALIVE, OUTPUT, STEPS, TOKEN, VARIABLE

_PROC = Path("/proc")
_GRACE_S = 3.0  # between asking a process to end and ending it
_LOOKS_EVERY_S = 0.02
_TAIL_BYTES = 16_384  # of what it printed


class Child(Struct):
    """A running child.

    Attributes:
        folder: its files.
    """

    folder: Path
    _process: subprocess.Popen[bytes]
    _pipe: int
    _token: str
    _over: bool = False

    @classmethod
    def start(cls, command: list[str], folder: Path) -> Child:
        """Start it in the working directory of this process."""
        (folder / STEPS).write_bytes(bytes(COUNT_BYTES))
        os.mkfifo(folder / ALIVE)
        pipe = os.open(folder / ALIVE, os.O_RDWR | os.O_CLOEXEC)  # for writing alone it would wait for a reader
        token = os.urandom(8).hex()
        with (folder / OUTPUT).open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - running the user's program is the purpose
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, VARIABLE: "1", TOKEN: token},
                start_new_session=True,
            )
        return cls(folder, process, pipe, token)

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    @property
    def steps(self) -> int:
        """Steps that it has told of."""
        return int.from_bytes((self.folder / STEPS).read_bytes(), sys.byteorder)

    def printed(self) -> str:
        """The end of what it printed."""
        with (self.folder / OUTPUT).open("rb") as output:
            output.seek(max(os.fstat(output.fileno()).st_size - _TAIL_BYTES, 0))
            return output.read().decode(errors="replace")

    def end(self) -> None:
        """End it and everything that it started: asked first, then not. Safe to call twice."""
        if self._over:
            return
        try:
            self._signal(signal.SIGTERM)
            self._wait(_GRACE_S)
        finally:  # Ctrl-C once more
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._wait(_GRACE_S)
            self._signal(signal.SIGKILL)
            self._over = True
            os.close(self._pipe)

    def _wait(self, longest_s: float) -> None:
        until = time.monotonic() + longest_s
        while time.monotonic() < until and (self._process.poll() is None or self._left()):
            time.sleep(_LOOKS_EVERY_S)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # a group of zombies only
            os.killpg(self._process.pid, number)
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _left(self) -> list[int]:
        """Its processes that still run, itself left out."""
        token = f"{TOKEN}={self._token}".encode()
        return [pid for pid in _processes() if pid != self._process.pid and token in _environment(pid).split(b"\0")]


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - names only, and fast
    except OSError:
        return []


def _environment(pid: int) -> bytes:
    """The environment that a process was started with; empty if it is over, a zombie or somebody else's."""
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""
