"""One torch profiler session that neither crashes the process nor disturbs the user's own profiler.

Known problems (all seen in torch 2.13): to stop a session that another profiler has replaced segfaults, so a session checks
whether it is still active before it stops. To leave the interpreter while recording segfaults, so an exit handler stops it.
Profiler state belongs to a thread, so only the thread that started it may stop it. Forked children inherit the recording (slower,
with a leak), so it is switched off in them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from mfu_doctor.capture.profiler import other_profilers as foreign
from mfu_doctor.capture.profiler.forking import guard_children

_LOG_LEVEL = "KINETO_LOG_LEVEL"
_SILENT = "6"  # libkineto: above ERROR; read once, when the first session of the process is prepared
_WAIT_FOR_OWNER_S = 2.0  # how long a profiler starting on another thread waits for ours to stop at the end of a step


class State(Enum):
    """Life of a session."""

    NEW = "new"
    PREPARED = "prepared"  # attached (CUPTI on), not recording
    RECORDING = "recording"
    DONE = "done"  # stopped by us: may be exported
    LOST = "lost"  # ended by another profiler or program: must be neither stopped nor exported


@dataclass(frozen=True, slots=True)
class Options:
    """What a session records."""

    cuda: bool
    shapes: bool = False
    stacks: bool = False


def _nothing() -> None:
    """The default of `before_yield`."""


@dataclass(slots=True, eq=False)
class Session:
    """A profiler session with a lease on the process's one profiler.

    Attributes:
        options: what to record.
        before_yield: called before the session ends for another profiler, to close spans of ours.
        state: where in its life it is.
        ended_by: why it ended, if that was not its owner's wish.
    """

    options: Options
    before_yield: Callable[[], None] = _nothing
    state: State = State.NEW
    ended_by: str | None = None
    _profiler: Any = None
    _patches: list[Any] = field(default_factory=list)
    _thread: int = 0
    _asked_to_stop: str | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def live(self) -> bool:
        """Whether the session holds the profiler."""
        return self.state in (State.PREPARED, State.RECORDING)

    def prepare(self) -> str | None:
        """Attach the profiler without recording; returns why not, if another profiler is there."""
        reason = foreign.active_profiler()
        if reason is not None:
            return reason
        self._profiler = _build(self.options)
        self._thread = threading.get_ident()
        with _Silence():
            self._profiler.prepare_trace()
        self.state = State.PREPARED
        self._patches = foreign.watch(self._other_starts)
        guard_children(_forget_in_child)
        _live.append(self)
        _of_thread.stopper = _Stopper(self)
        atexit.register(self._at_exit)
        return None

    def start(self) -> str | None:
        """Begin to record (preparing first if needed); returns why not, if another profiler is there."""
        if self.state is State.NEW:
            reason = self.prepare()
            if reason is not None:
                return reason
        if self.state is State.PREPARED:
            with _Silence():
                self._profiler.start_trace()
            self.state = State.RECORDING
        return self.ended_by if self.state is not State.RECORDING else None

    def stop(self, ended_by: str | None = None) -> None:
        """Stop recording, if the session is still ours to stop; does nothing when it has ended."""
        if not self.live or threading.get_ident() != self._thread:
            return
        import torch

        was, self.state, self.ended_by = self.state, State.LOST, ended_by
        self._release()
        with _Silence():
            if was is State.PREPARED:
                self._profiler.start_trace()  # an attached profiler can only be detached by a short recording
            if torch._C._autograd._profiler_enabled():  # noqa: SLF001 - no public name exists
                self._profiler.stop_trace()
                self.state = State.DONE
            else:
                self.ended_by = "another profiler closed this session"
        if was is State.PREPARED:
            self.state = State.LOST  # nothing worth exporting
        self._stopped.set()

    def checkpoint(self) -> None:
        """Between steps: stop if a profiler on another thread is waiting to start."""
        if self._asked_to_stop is not None:
            self.stop(self._asked_to_stop)

    def events(self) -> int | None:
        """Number of events recorded, None if torch does not say."""
        return len(self.kineto_events()) if self.state is State.DONE else None

    def kineto_events(self) -> Sequence[Any]:
        """Kineto's events of a session that is DONE and was not exported; empty if torch does not give them."""
        results = getattr(getattr(self._profiler, "profiler", None), "kineto_results", None)
        return results.events() if self.state is State.DONE and results is not None else ()

    def ask_to_stop(self, reason: str) -> None:
        """Wait until the thread of this session has stopped it, at the end of its step; does nothing on that thread."""
        if self.live and threading.get_ident() != self._thread:
            self._asked_to_stop = reason
            self._stopped.wait(_WAIT_FOR_OWNER_S)

    def export(self, path: Path) -> None:
        """Write Kineto's JSON (uncompressed); works once, and only for a session that is DONE."""
        self._profiler.export_chrome_trace(str(path))
        self.discard()

    def discard(self) -> None:
        """Drop the recorded events (their memory is freed)."""
        self._profiler, self.state = None, State.LOST

    def abandon(self) -> None:
        """Forget the session without touching the profiler: in a forked child it belongs to the parent."""
        self.state = State.LOST
        self._release()

    def _other_starts(self, profiler: object) -> None:
        if not self.live or profiler is getattr(self._profiler, "profiler", None):
            return
        if threading.get_ident() == self._thread:
            self.before_yield()
            self.stop("another torch profiler started")
            return
        self._asked_to_stop = "another torch profiler started on another thread"
        if not self._stopped.wait(_WAIT_FOR_OWNER_S):
            self.ended_by, self.state = self._asked_to_stop, State.LOST  # theirs replaces ours: never stop ours now
            self._release()

    def _release(self) -> None:
        for patch in self._patches:
            patch.remove()
        self._patches = []
        atexit.unregister(self._at_exit)
        if self in _live:
            _live.remove(self)
            if threading.get_ident() == self._thread:
                _of_thread.stopper = None

    def _at_exit(self) -> None:
        self.stop("the interpreter exited")


class _Stopper:
    """Lives as long as the thread that records: a thread that ends while recording would take the process down at exit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __del__(self) -> None:
        self._session.stop("its thread ended")


_of_thread = threading.local()
_live: list[Session] = []  # at most one; a forked child must switch its inherited recording off


class _Silence:
    """Keep libkineto from writing to stderr; the variable is restored at once, so that no child process inherits it.

    torch itself may set variables when a session starts (CUDA graphs on old CUDA); these are restored too.
    """

    _NAMES = (_LOG_LEVEL, "DISABLE_CUPTI_LAZY_REINIT", "TEARDOWN_CUPTI")

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._NAMES}
        os.environ.setdefault(_LOG_LEVEL, _SILENT)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _build(options: Options) -> Any:
    """A profiler object; only options that the installed torch accepts are passed."""
    from torch.profiler import ProfilerActivity
    from torch.profiler.profiler import _KinetoProfile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.cuda else [])]
    return _KinetoProfile(
        activities=activities,
        record_shapes=options.shapes,
        with_stack=options.stacks,
        experimental_config=_experimental(options),
    )


def _experimental(options: Options) -> Any:
    from torch._C._profiler import _ExperimentalConfig

    if not options.cuda:
        return None
    try:
        return _ExperimentalConfig(enable_cuda_sync_events=True)
    except TypeError:  # torch before 2.1 does not know it
        return None


def _forget_in_child() -> bool:
    """In a forked child: the parent's session is not ours to stop; returns whether it was live."""
    for session in tuple(_live):
        session.abandon()
        return True
    return False
