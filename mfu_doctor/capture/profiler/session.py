"""One torch profiler session that neither crashes the process nor disturbs the user's own profiler.

Known problems (all seen in torch 2.13): two sessions at once, in any threads, corrupt the heap, so one is opened while no other
is live or begins. To stop a session that another profiler has replaced segfaults, so a session checks whether it is still active
before it stops. To leave the interpreter while recording segfaults, so an exit handler stops it. Profiler state belongs to a
thread, so only the thread that started it may stop it. Forked children inherit the recording (slower, with a leak), so it is
switched off in them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.loop.dynamo import leave_alone
from mfu_doctor.capture.patience import Patience
from mfu_doctor.capture.profiler import other_profilers as foreign
from mfu_doctor.capture.profiler.forking import guard_children
from mfu_doctor.capture.profiler.open_spans import OpenSpans

_LOG_LEVEL = "KINETO_LOG_LEVEL"
_SILENT = "6"  # libkineto: above ERROR; read once, when the first session of the process is prepared
WAIT_FOR_OWNER_S = 2.0  # how long another thread waits for ours to stop at the end of a step


class State(Enum):
    """Life of a session."""

    NEW = "new"
    OPENING = "opening"  # it looks for other profilers, and attaches
    PREPARED = "prepared"  # attached (CUPTI on), not recording
    RECORDING = "recording"
    DONE = "done"  # stopped by us: may be exported
    LOST = "lost"  # ended by another profiler or program: must be neither stopped nor exported


class Options(Struct, frozen=True):
    """What a session records."""

    cuda: bool
    shapes: bool = False
    stacks: bool = False


def _nothing() -> None:
    """The default of `before_yield`."""


class Session(Struct, eq=False):
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
    _patches: list[Callable[[], None]] = field(default_factory=list)
    _spans: OpenSpans | None = None  # while it records
    _thread: int = 0
    _asked_to_stop: str | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def live(self) -> bool:
        """Whether the session holds the profiler."""
        return self.state in (State.OPENING, State.PREPARED, State.RECORDING)

    @property
    def elsewhere(self) -> bool:
        """Whether it is live and another thread's, which alone may stop it."""
        return self.live and threading.get_ident() != self._thread

    def prepare(self) -> str | None:
        """Attach the profiler without recording; returns why not, if another profiler is there."""
        self._thread, self.state = threading.get_ident(), State.OPENING
        live_sessions.append(self)  # before it looks: of two that come at once the first in the list goes on
        self._patches = foreign.watch(self._other_starts)
        try:
            reason = _another_of_ours(self) or foreign.active_profiler() or self._asked_to_stop
            if reason is None:
                self._attach()
        finally:
            if self.state is State.OPENING:
                self.state = State.NEW
                self._release()
                self._stopped.set()
        if self._asked_to_stop is not None:  # while it was being attached
            self.stop(self._asked_to_stop)
        return reason or self.ended_by

    def _attach(self) -> None:
        self._profiler = _build(self.options)
        with _Silence():
            self._profiler.prepare_trace()
        self.state = State.PREPARED
        guard_children(_forget_in_child)
        _of_thread.stopper = _Stopper(self)  # held by the thread alone, so that it ends with it
        atexit.register(self._at_exit)

    def start(self) -> str | None:
        """Begin to record (preparing first if needed); returns why not, if another profiler is there."""
        if self.state is State.NEW:
            reason = self.prepare()
            if reason is not None:
                return reason
        if self.state is State.PREPARED:
            with _Silence():
                self._profiler.start_trace()
            self.state, self._spans = State.RECORDING, OpenSpans()
        return self.ended_by if self.state is not State.RECORDING else None

    def stop(self, ended_by: str | None = None) -> None:
        """Stop recording, if the session is still ours to stop; does nothing when it has ended."""
        if not self.live or self.elsewhere:
            return
        import torch

        was, self.state, self.ended_by = self.state, State.LOST, ended_by
        self._release()
        spans, self._spans = self._spans, None
        with _Silence(), nullcontext() if spans is None else spans.renewed():
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

    def ask_to_stop(self, reason: str, patience: Patience | None = None) -> bool:
        """From another thread: have that of this session stop it at the end of its step; returns whether it is over in time."""
        if not self.elsewhere:
            return True
        self._asked_to_stop = reason
        if not (Patience(WAIT_FOR_OWNER_S) if patience is None else patience).came(self._stopped.wait):
            self._asked_to_stop = None
        return self._stopped.is_set()

    def leave(self, stop: Callable[[], object]) -> None:
        """Nobody will ask its thread again: it calls `stop` there when an optimizer steps, if the thread does not end before."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def stepped(*_: object) -> None:
            if not self.elsewhere:
                stop()

        leave_alone(stepped, inside=True)
        self._patches.append(register_optimizer_step_post_hook(stepped).remove)

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
        why = "another torch profiler started"
        if self.elsewhere:
            if not self.ask_to_stop(f"{why} on another thread"):
                self.ended_by, self.state = why, State.LOST  # theirs replaces ours: never stop ours now
                self._release()
        elif self.state is State.OPENING:  # in a signal handler
            self._asked_to_stop = why
        else:
            self.before_yield()
            self.stop(why)

    def _release(self) -> None:
        for patch in self._patches:
            patch()
        self._patches = []
        if self._spans is not None:
            self._spans.remove()
        atexit.unregister(self._at_exit)
        if self in live_sessions:
            live_sessions.remove(self)
        stopper: _Stopper | None = getattr(_of_thread, "stopper", None)
        if stopper is not None and stopper.session is self:
            _of_thread.stopper = None

    def _at_exit(self) -> None:
        self.stop("the interpreter exited")


class _Stopper:
    """Lives as long as the thread that records: a thread that ends while recording would take the process down at exit."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __del__(self) -> None:
        self.session.stop("its thread ended")


_of_thread = threading.local()
live_sessions: list[Session] = []
"""Ours that are attached: steps take longer. The first one alone may attach; a forked child must switch its inherited one off."""


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


def _another_of_ours(session: Session) -> str | None:
    return None if live_sessions[0] is session else "another recording of mfu-doctor is under way"


def _forget_in_child() -> bool:
    """In a forked child: the parent's session is not ours to stop; returns whether it was live."""
    inherited = tuple(live_sessions)
    for session in inherited:
        session.abandon()
    return bool(inherited)
