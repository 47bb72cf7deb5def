"""Protects forked children from the recording of their parent.

Two things go wrong in children of a process that has used torch's profiler (torch 2.13): while the parent records they record
too (slower, and a kilobyte leaked for each operator); and at exit libkineto's destructor waits for a thread that only
the parent has, so a child that does not leave through `os._exit`, as loader workers do, hangs or aborts.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Callable


class _State:
    used = False  # whether this process has ever prepared a session of ours
    libc: ctypes.CDLL | None = (
        None  # opened before a fork: a lock of the loader may be held in the child by a thread that is gone
    )
    abandon: Callable[[], bool] | None = None


def guard_children(abandon: Callable[[], bool]) -> None:
    """Spare all children forked from now on.

    Args:
        abandon: called in the child; forgets the parent's session and returns whether it was recording.
    """
    _State.used, _State.abandon = True, abandon
    _State.libc = _State.libc or ctypes.CDLL(None)


def _in_child() -> None:
    if not _State.used or _State.abandon is None:
        return
    import torch

    switch = getattr(torch._C._autograd, "_enable_record_function", None)  # noqa: SLF001 - no public name exists
    if _State.abandon() and switch is not None:
        switch(False)
    _skip_destructors()


def _skip_destructors() -> None:
    """Let this process end with `_exit(status)` once Python is done: C++ destructors do not run, C's buffers are flushed."""
    libc = _State.libc
    on_exit, leave = getattr(libc, "on_exit", None), getattr(libc, "_exit", None)
    if libc is None or on_exit is None or leave is None:  # not glibc
        return
    atexit.register(libc.fflush, None)
    on_exit(leave, None)  # glibc calls it with the exit status as its first argument


os.register_at_fork(after_in_child=_in_child)  # cannot be unregistered: it only looks at a flag
