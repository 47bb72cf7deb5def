"""Runs test programs as real processes: a server process has imported torch once and forks one child for each program.

A child is a whole interpreter with its own `__main__`, exit handlers and exit status, but starts in milliseconds instead of
the seconds that importing torch takes. `python zygote.py` is the server; `Zygote` talks to it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Self

_LONGEST_S = 600.0  # of a program on a slow or busy machine: only what hangs takes so long
_LOOKS_EVERY_S = 0.005
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended; `code` is negative for a signal, as in `subprocess`."""

    code: int
    out: str
    err: str

    @property
    def losses(self) -> list[str]:
        """The exact losses that the program printed."""
        return [line for line in self.out.splitlines() if line.startswith("loss ")]


class Zygote:
    """The server, seen from the tests; a context manager."""

    def __init__(self, home: Path) -> None:
        env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
        env.pop("KINETO_LOG_LEVEL", None)
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pipe = self._pipe(self._server.stdin)
        pipe.close()
        self._pipe(self._server.stdout).close()
        self._server.wait(_LONGEST_S)

    def run(self, program: str, folder: Path, *args: str, timeout_s: float = _LONGEST_S) -> Ended:
        """Run the text of a program in a folder with arguments."""
        job = {"program": program, "folder": str(folder), "args": list(args), "timeout_s": timeout_s}
        stdin, stdout = self._pipe(self._server.stdin), self._pipe(self._server.stdout)
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        code = json.loads(stdout.readline())
        return Ended(code, (folder / "out.txt").read_text(), (folder / "err.txt").read_text())

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _serve() -> None:
    """Fork a child for each job and answer with its exit status; returns only in a child, with its program loaded."""
    import torch
    import torch._inductor.config

    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # a first optimizer imports Dynamo: two more seconds
    gc.collect()
    gc.freeze()  # the children's collectors need not walk (and copy) what was imported here

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(job["program"], Path(job["folder"]), job["args"])
            return
        sys.stdout.write(json.dumps(_wait(child, job["timeout_s"])) + "\n")
        sys.stdout.flush()
    sys.exit(0)


def _become(program: str, folder: Path, args: Sequence[str]) -> None:
    """In the child: its own files, folder and arguments."""
    for name, descriptor, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (str(folder / "out.txt"), 1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (str(folder / "err.txt"), 2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(name, flags), descriptor)
    os.chdir(folder)
    script = folder / "program.py"
    script.write_text(program)
    sys.argv[:] = [str(script), *args]
    sys.path[0] = str(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait(child: int, timeout_s: float) -> int:
    for _ in range(math.ceil(timeout_s / _LOOKS_EVERY_S)):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOKS_EVERY_S)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve()
    _main = ModuleType("__main__")
    _main.__dict__.update(__file__=sys.argv[0], __builtins__=__builtins__)
    sys.modules["__main__"] = _main
    exec(compile(Path(sys.argv[0]).read_bytes(), sys.argv[0], "exec"), _main.__dict__)
