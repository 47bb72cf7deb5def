"""The command line in this process, as often as one likes: what it said, how it ended, and what escaped."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import numpy as np
import typer.main

from mfu_doctor.cli.main import main

LONGEST_ERROR = 1_500  # characters
_HUNG_S = 120.0  # processor time after which a command is interrupted

_OPEN = Path("/proc/self/fd")

# Typer builds the command again for each call: a third of what a small report takes. It is the same one for every call.
_built = cache(typer.main.get_command)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: object
    out: str
    err: str
    seconds: float
    crash: str = ""
    left: str = ""  # what of the process is not as it was before

    @property
    def is_sound(self) -> bool:
        """Whether it did what it was asked to."""
        return not self.crash and self.code in (0, 1, None)

    @property
    def fault(self) -> str:
        """What is wrong with how it ended; empty if nothing: it succeeded, or refused in one sentence and without a result."""
        if self.crash:
            return f"crashed: {self.crash}"
        if self.left:
            return f"left behind: {self.left}"
        if self.is_sound or (self.code == 2 and is_sentence(self.err) and not self.out):
            return ""
        return f"exit code {self.code}: {self.err[:500]!r}"


def is_sentence(text: str) -> bool:
    """Whether this is one line of ours, short enough to be read."""
    return text.startswith("error: ") and text.count("\n") == 1 and len(text) <= LONGEST_ERROR


class HungError(Exception):
    """A command took more processor time than any input may take."""


def run(*argv: str) -> Outcome:
    """The command line with these words; a warning is a crash."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: object = None
    crash = ""
    before = _state()
    begun = time.process_time()
    with (
        patch.object(sys, "argv", ["mfu-doctor", *argv]),
        patch.object(sys, "stdout", out),
        patch.object(sys, "stderr", err),
        patch.object(typer.main, "get_command", _built),
        interrupted_after(_HUNG_S),
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main()
        except SystemExit as end:
            code = end.code
        except BaseException:  # noqa: BLE001 - whatever escapes is what is looked for
            crash = traceback.format_exc()[-2_000:]
    took = time.process_time() - begun
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
    after = _state()
    after["threads"] |= before["threads"]  # one that another test left may end meanwhile
    changed = [f"{name} is {after[name]}, was {was}" for name, was in before.items() if after[name] != was]
    return Outcome(code, texts[0], texts[1], took, crash, "; ".join(changed))


def _state() -> dict[str, Any]:
    """What no command may change in its process: others run in it after this one, and tests do."""
    return {
        "working directory": Path.cwd(),
        "environment": hash(frozenset(os.environ.items())),  # its values are nobody's business
        "module path": tuple(sys.path),
        "recursion limit": sys.getrecursionlimit(),
        "open files": sorted(p.name for p in _OPEN.iterdir()) if _OPEN.is_dir() else [],
        "threads": frozenset(threading.enumerate()),
        "handler of SIGINT": signal.getsignal(signal.SIGINT),
        "floating point": np.geterr(),
        "longest number": sys.get_int_max_str_digits(),
    }


@contextmanager
def interrupted_after(seconds: float = _HUNG_S) -> Iterator[None]:
    """Raise `HungError` when the block has taken so much processor time."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HungError(f"after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
