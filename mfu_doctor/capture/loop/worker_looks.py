"""Where worker processes of a DataLoader are in the program while they load: looked at from a thread of their own.

Torch starts a worker with a function that loads until there is no more to load. Until the recording ends, that function has this
thread beside it. What it sees goes through one pipe for all workers, a line each, which nobody ever waits for: the process that
trains takes out what there is when it gets a batch; what comes while the pipe is full is left out; if it is closed, the looking
ends. Started anew (spawn, forkserver), a worker gets the same by its name.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.capture.loop.pipe_end import PipeEnd, pipe_ends
from mfu_doctor.capture.loop.stack_sampler import UserFiles, irregular, own_directory
from mfu_doctor.capture.loop.user_functions import UserFunctions
from mfu_doctor.capture.loop.where import line_of, package_of
from mfu_doctor.facts import FrameSample
from mfu_doctor.units import NS_PER_S

_PERIOD_S = 0.01
_MOST = 500  # looks that saw the program, of one worker: five seconds of loading
_LONGEST_S = 60.0  # a worker that rests is not looked at for good
_MOST_BYTES = getattr(select, "PIPE_BUF", 512)  # a longer line could be torn, and the program's paths can be any length
_READ_EVERY_NS = NS_PER_S // 10  # workers need longer than that to fill the pipe: at a look each 10 ms, 200 do
_PIPE_BYTES = 1 << 16
_LINE = msgspec.json.Decoder(FrameSample | str)


class WorkerLooks:
    """Looks at the workers that are started until stopped.

    Args:
        base: directory that places are shown relative to.
        notes: where to say what failed in a worker.
    """

    def __init__(self, base: Path | None, notes: Notes) -> None:
        self._base, self._notes = base, notes
        self._pipe: tuple[PipeEnd, PipeEnd] | None = None  # to read and to write; closed here and nowhere else
        self._removal: Callable[[], None] | None = None
        self._told, self._read_ns = bytearray(), 0

    def start(self) -> None:
        """Workers that are started from now on are looked at."""
        from torch.utils.data._utils import worker

        if self._pipe is None:
            self._pipe = pipe_ends()
            (read_end, pipe), base, made_in = self._pipe, self._base, os.getpid()
            self._removal = patch(
                worker, "_worker_loop", lambda original: LookedAt(original, pipe, base, made_in, read_end)
            )

    def read(self) -> None:
        """Make room in the pipe, if that was some time ago: this is called for each batch, and takes some microseconds then."""
        now_ns = time.monotonic_ns()
        if self._pipe is not None and now_ns - self._read_ns >= _READ_EVERY_NS:
            self._read_ns = now_ns
            self._take(self._pipe[0])

    def stop(self) -> tuple[FrameSample, ...]:
        """Start no more, and return what was seen; safe to call twice."""
        removal, self._removal = self._removal, None
        pipe, self._pipe = self._pipe, None
        if removal is not None:
            removal()
        if pipe is None:
            return ()
        try:
            self._notes.guarded("what the loader's workers told could not be read", self._take, pipe[0])
        finally:
            for end in pipe:
                end.close()
        lines, self._told = bytes(self._told).splitlines(), bytearray()
        told = [one for line in lines if (one := _read_line(line)) is not None]
        for sentence in told:
            if isinstance(sentence, str):
                self._notes.say(sentence)
        samples = [sample for sample in told if isinstance(sample, FrameSample)]
        return tuple(sorted(samples, key=lambda sample: sample.time_ns))

    def _take(self, read_end: PipeEnd) -> None:
        """What is in the pipe now: no more, as workers go on to fill it."""
        with suppress(BlockingIOError):
            self._told += os.read(read_end.number, _PIPE_BYTES)


class LookedAt:
    """A worker's own function, and a thread that looks at it.

    In a worker the ends of the pipe are nobody else's: the thread closes the one that it writes to, and nothing here does after
    it has begun.

    Args:
        original: that function.
        pipe: where to tell what was seen.
        base: directory that places are shown relative to.
        made_in: the process that trains, in which nothing is looked at; None: another one than this.
        read_end: of the pipe. A forked worker has it, too, and as long as it is open there what is told there never fails.
    """

    def __init__(
        self,
        original: Callable[..., Any],
        pipe: PipeEnd,
        base: Path | None,
        made_in: int | None,
        read_end: PipeEnd | None = None,
    ) -> None:
        self._original, self._pipe, self._base, self._made_in = original, pipe, base, made_in
        self._read_end = read_end

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Load until there is no more."""
        over = threading.Event()
        if os.getpid() != self._made_in:
            # No thread, or no end to close: this worker is not looked at, and its batches are the program's.
            with suppress(RuntimeError, OSError):
                if self._read_end is not None:
                    self._read_end.close()
                watched = threading.get_ident(), self._pipe, self._base, over
                threading.Thread(target=_look, args=watched, name="mfu-doctor-worker", daemon=True).start()
        try:
            return self._original(*args, **kwargs)
        finally:
            over.set()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """By name, for a worker that is started anew; nothing is looked at if the recording has ended meanwhile."""
        return (_named, ()) if self._pipe.closed else (_anew, (self._pipe, self._base))


def _named() -> Callable[..., Any]:
    from torch.utils.data._utils import worker

    return worker._worker_loop  # noqa: SLF001 - no public name exists


def _anew(pipe: PipeEnd, base: Path | None) -> LookedAt:
    return LookedAt(_named(), pipe, base, None)


def _look(thread: int, pipe: PipeEnd, base: Path | None, over: threading.Event) -> None:
    """Tell where the thread is, and what failed in telling it, until nobody reads any more."""
    with suppress(OSError), pipe:
        # A program may have it that to write where nobody reads ends the process: not for what this thread writes.
        if hasattr(signal, "SIGPIPE"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        notes = Notes()
        notes.guarded("a worker could not be looked at", _tell, thread, pipe, base, over)
        for sentence in notes.said:
            _write(pipe, sentence)


def _read_line(line: bytes) -> FrameSample | str | None:
    """What a worker wrote; None if it wrote only a part of it, or if it is somebody else's."""
    try:
        return _LINE.decode(line)
    except msgspec.DecodeError:
        return None


def _write(pipe: PipeEnd, told: FrameSample | str) -> None:
    """A line at once, or nothing: lines of several workers would mix."""
    line = msgspec.json.encode(told) + b"\n"
    if len(line) <= _MOST_BYTES:
        with suppress(BlockingIOError):  # full
            os.write(pipe.number, line)


def _tell(thread: int, pipe: PipeEnd, base: Path | None, over: threading.Event) -> None:
    """Tell where the thread is until it has ended, enough was seen, or nobody reads."""
    files, own, seen, until = UserFiles(base), own_directory() + os.sep, 0, time.monotonic() + _LONGEST_S
    functions = UserFunctions(files.shown, LookedAt.__call__.__code__)
    while seen < _MOST and time.monotonic() < until and not over.wait(irregular(_PERIOD_S)):
        sample = _sample(thread, files, own, functions)
        if (
            over.is_set()
        ):  # it may have been outside of its function already: in a forked worker that is where it was forked
            return
        if sample is None:
            continue
        seen += 1
        try:
            _write(pipe, sample)
        except OSError:  # closed
            return


def _sample(thread: int, files: UserFiles, own: str, functions: UserFunctions) -> FrameSample | None:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way
    line = line_of(frame, own, files.shown, LookedAt.__call__.__code__)
    if frame is None or line is None:
        return None
    file = frame.f_code.co_filename
    library = None if files.shown(file) is not None else package_of(file)
    within = functions.on(frame)
    return FrameSample(time_ns=time.time_ns(), place=line.place, library=library, call=line.call, within=within)
