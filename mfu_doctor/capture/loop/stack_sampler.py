"""The position of the main thread in the user's code, sampled from another thread while the timing window is open.

The stacks of the profiler slow the loop by half. One sample costs ten microseconds, fifty times a second, and long waits
(`.item()`, a slow transform) get most samples. A window of short steps is over soon, so sampling begins at a higher rate; when
there are enough samples every second one is dropped, and the rate is halved.
"""

from __future__ import annotations

import os
import random
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import FrameType

from mfu_doctor.capture.loop.user_functions import UserFunctions
from mfu_doctor.capture.loop.where import line_of, package_of
from mfu_doctor.capture.patience import joined
from mfu_doctor.facts import FrameSample

_PERIOD_S = 0.02  # 50 Hz: sampling at this rate is within the noise of a 0.8 ms step
_FIRST_S = _PERIOD_S / 8
_ENOUGH = 40  # samples: of a half of them that load, a half is known to a fifth
_JOIN_S = 2.0  # its last look
_CHANCE = random.Random(0)  # noqa: S311 - not the program's own, whose state is not ours to change
_MAX_SAMPLES = 30_000  # ten minutes


class StackSampler:
    """Samples one thread until stopped.

    Args:
        thread: identity of the thread to watch (`threading.get_ident()`).
        base: directory that places are shown relative to; None: file names only.
    """

    def __init__(self, thread: int, base: Path | None) -> None:
        self._watched = thread
        self._files, self._own = UserFiles(base), own_directory() + os.sep
        self._functions = UserFunctions(self._files.shown)
        self._clock = _cpu_clock(thread)
        self._stop = threading.Event()
        self._samples: list[FrameSample] = []
        self._thread = threading.Thread(target=self._run, name="mfu-doctor-frames", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> tuple[FrameSample, ...]:
        """Stop and return the samples in time order."""
        self._stop.set()
        joined(self._thread, _JOIN_S)
        return tuple(self._samples)

    def _run(self) -> None:
        period_s, looks = _FIRST_S, 0  # looks at this period's rate; many find no line that is the user's
        while not self._stop.wait(irregular(period_s)) and len(self._samples) < _MAX_SAMPLES:
            self._look()
            looks += 1
            if period_s < _PERIOD_S and looks >= 2 * _ENOUGH:
                self._samples = self._samples[1::2]
                period_s, looks = 2 * period_s, _ENOUGH

    def _look(self) -> None:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the documented way
        line = line_of(frame, self._own, self._files.shown)
        if frame is not None and line is not None:
            library = None if self._is_users(frame) else package_of(frame.f_code.co_filename)
            self._samples.append(
                FrameSample(
                    time_ns=time.time_ns(),
                    place=line.place,
                    library=library,
                    cpu_ns=self._cpu_ns(),
                    call=line.call,
                    within=self._functions.on(frame),
                )
            )
        del frame  # it holds what the program holds

    def _is_users(self, frame: FrameType) -> bool:
        return self._files.shown(frame.f_code.co_filename) is not None

    def _cpu_ns(self) -> int | None:
        """CPU time of the watched thread; a thread that ended has no clock."""
        if self._clock is None:
            return None
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError:
            self._clock = None
            return None


def irregular(period_s: float) -> float:
    """A wait of this length in the mean: regular looks at steps of nearly the same length would all see the same part of them."""
    return period_s * _CHANCE.uniform(0.5, 1.5)


def _cpu_clock(thread: int) -> int | None:
    """The clock of this thread's CPU time; None for another thread (its identity may be out of use) or where there is none."""
    if thread != threading.get_ident() or not hasattr(time, "pthread_getcpuclockid"):
        return None
    try:
        return time.pthread_getcpuclockid(thread)
    except OSError:
        return None


class UserFiles:
    """Tells the user's own files from those of libraries.

    Args:
        base: directory that files are shown relative to; None: names only.
    """

    def __init__(self, base: Path | None) -> None:
        self._base = base
        self._foreign = _foreign_prefixes()
        self._known: dict[str, str | None] = {}

    @property
    def seen(self) -> tuple[str, ...]:
        """The user's files that were asked about."""
        return tuple(file for file, shown in tuple(self._known.items()) if shown is not None)

    def shown(self, filename: str) -> str | None:
        """The file as a report shows it, or None for the code of a library."""
        if filename not in self._known:
            library = filename.startswith(("<", *self._foreign))
            self._known[filename] = None if library else shown_path(filename, self._base)
        return self._known[filename]


def place_here(base: Path | None) -> str | None:
    """The innermost line of the user's code that this thread is at; None if there is none."""
    line = line_of(sys._getframe(1), own_directory() + os.sep, UserFiles(base).shown)  # noqa: SLF001 - the documented way
    return None if line is None else line.place


def shown_path(filename: str, base: Path | None) -> str:
    """A file as a report shows it: relative to the working directory where it lies below it, else its name."""
    path = Path(filename)
    if base is not None and path.is_absolute() and path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return path.as_posix() if not path.is_absolute() else path.name


def own_directory() -> str:
    """Directory of this package: its frames are never the user's."""
    return str(Path(__file__).resolve().parents[2])


def _foreign_prefixes() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [path for path in (sysconfig.get_path(name) for name in names) if path]
    return (*paths, own_directory())
