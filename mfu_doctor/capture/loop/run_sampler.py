"""Where the training thread is, looked at from another thread for the whole block: outside of usual steps, and in all of them.

Fifty times a second in the first minute, ten times afterwards: a look takes some ten microseconds. In usual steps the innermost
lines are looked at (`StepLines`), and now and then the way to them: what they do too is no other work in a long one. The thread
is a daemon and is joined when the block ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from msgspec.structs import replace

from mfu_doctor.capture.loop.edges import Edge
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.set_up import set_up_at
from mfu_doctor.capture.loop.stack_sampler import UserFiles, irregular, own_directory
from mfu_doctor.capture.loop.step_lines import StepLines
from mfu_doctor.capture.loop.where import Call, Where, place_of, stack_of
from mfu_doctor.capture.patience import joined
from mfu_doctor.facts.whole_run import LONG, PARTS, TRAINING, Elsewhere, WholeRun

_PERIOD_S, _LATER_S = 0.02, 0.1
_LATER_AFTER_S = 60.0
_JOIN_S = 2.0  # its last look: a file that it names may lie on a slow disk
_MAX_PLACES = 512  # kept
_MAX_EDGES = 32  # steps whose way is remembered
_MAX_WAYS = 8
_MOST = 8  # places of a part in the file
_USUAL = "usual"  # beside PARTS: in a usual step
_USUAL_EACH = 8  # looks in usual steps for one at the whole stack, which takes some hundred microseconds
# A longer batch makes all of a step longer, some lines more than others: what has half the share of usual steps that it has of
# the long part of long ones is what every step does.
_AS_USUAL = 0.5


class RunSampler:
    """Looks at one thread until stopped; can be stopped and started again.

    Args:
        thread: identity of the thread (`threading.get_ident()`).
        base: directory that places are shown relative to; None: file names only.
        clock: says what the thread is at.
        guarded: runs a function of ours so that its failure is noted and goes no further.

    Attributes:
        lines: the lines of the program that its steps are at.
    """

    def __init__(
        self, thread: int, base: Path | None, clock: RunClock, guarded: Callable[[Callable[[], None]], None]
    ) -> None:
        self._watched, self._clock, self._guarded = thread, clock, guarded
        self._files, self._own = UserFiles(base), own_directory() + os.sep
        self._began = time.perf_counter()
        self._stop = threading.Event()  # one for each thread: an old one that is late must not run on
        self._thread: threading.Thread | None = None
        self._ways: list[tuple[tuple[str, str], ...]] = []
        self._trainers: set[str] = set()  # classes on the way to the steps
        self._edges = 0
        self._way: tuple[Call, ...] = ()  # to the step that runs, while such ways are remembered
        self._seen: dict[tuple[str, Where], int] = {}
        self._usual = 0  # looks in usual steps
        self.lines = StepLines(self._files.shown, self._own)

    def start(self) -> None:
        """Begin, or go on."""
        if self._thread is None:
            self._stop = threading.Event()
            thread = threading.Thread(target=self._guarded, args=(self._run,), name="mfu-doctor-run", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        """Stop looking."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            joined(thread, _JOIN_S)

    def follow(self, thread: int) -> None:
        """Look at another thread from now on: the training goes on there."""
        self._watched = thread

    def edge(self, edge: int) -> None:
        """What the step detector answered: of the first few steps that end as steps, the way to them is remembered.

        An evaluation begins with a batch like a step. What it leads to is then no way to a step.
        """
        if edge & Edge.VOID:
            self._way = ()
        if edge & Edge.END and self._way:
            way = tuple(call.name for call in self._way)
            if way not in self._ways and len(self._ways) < _MAX_WAYS:
                self._ways.append(way)
                self._trainers.update(call.owner for call in self._way if call.owner is not None)
        if edge & (Edge.END | Edge.PAUSE):
            self._way = ()
        if edge & Edge.BEGIN and self._edges < _MAX_EDGES:
            self._edges += 1
            self._way = stack_of(sys._getframe(1), self._own)  # noqa: SLF001 - the documented way

    def forget(self) -> None:
        """The edges so far were none of steps."""
        self._edges = 0
        self._way = ()
        self._ways.clear()
        self._trainers.clear()
        self.lines.forget()

    def elsewhere(self, account: WholeRun) -> tuple[Elsewhere, ...]:
        """The seconds of each part of the account, divided by what was seen in it; longest first."""
        found: list[Elsewhere] = []
        seen = dict(self._seen)  # the thread may still be at its last look
        for part in PARTS:
            looks = {where: ns for (at, where), ns in seen.items() if at == part}
            if part == LONG:
                looks = _without_usual(looks, {where: ns for (at, where), ns in seen.items() if at == _USUAL})
            total, seconds = sum(looks.values()), account.seconds_of(part)
            most = sorted(looks.items(), key=lambda item: -item[1])[:_MOST]
            found += [self._told(w, part, seconds * ns / total) for w, ns in most if seconds > 0 and ns > 0]
        return tuple(sorted(found, key=lambda e: -e.seconds))

    def _told(self, where: Where, part: str, seconds: float) -> Elsewhere:
        """One entry of the account; what a library does by itself has the line that asks it to."""
        asked = None
        if where.place is None and where.library is not None:
            owner = (where.function or "").rpartition(".")[0]
            asked = set_up_at(self._files.seen, None if owner in self._trainers else owner or None, where.kind)
        return Elsewhere(
            part=part,
            seconds=seconds,
            place=where.place,
            function=where.function,
            kind=where.kind,
            library=where.library,
            asked_at=None if asked is None else f"{self._files.shown(asked[0])}:{asked[1]}",
        )

    def _run(self) -> None:
        stop, last = self._stop, time.perf_counter_ns()
        while not stop.wait(irregular(self._period())):
            now = time.perf_counter_ns()
            part, step = self._clock.unusual(now), self._clock.plain_step
            if part is not None or step is not None:
                frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the documented way
                for_ns = min(now - last, max(now - self._clock.since_ns, 0))
                if part is not None:
                    self._look(frame, part, for_ns)
                if step is not None:
                    self.lines.look(frame, step, now - last)
                    self._look_as_usual(frame, part, for_ns)
                del frame  # it holds what the program holds
            last = now

    def _period(self) -> float:
        return _PERIOD_S if time.perf_counter() - self._began < _LATER_AFTER_S else _LATER_S

    def _look_as_usual(self, frame: FrameType | None, part: str | None, for_ns: int) -> None:
        self._usual += part is None
        if part is None and self._usual % _USUAL_EACH == 0:
            self._look(frame, _USUAL, for_ns)

    def _look(self, frame: FrameType | None, part: str, for_ns: int) -> None:
        stack = stack_of(frame, self._own)
        if not stack:
            return
        where = place_of(stack, self._ways, self._files.shown)
        if where.kind is None and self._clock.evaluating:
            where = replace(where, kind="evaluation")
        key = (part, where)
        if key in self._seen or len(self._seen) < _MAX_PLACES:
            self._seen[key] = self._seen.get(key, 0) + for_ns


def _without_usual(long: dict[Where, int], usual: dict[Where, int]) -> dict[Where, int]:
    """The looks in long steps, where what usual steps do too is called training: there is only more of it."""
    of_long, of_usual = sum(long.values()), sum(usual.values())
    found: dict[Where, int] = {}
    for where, ns in long.items():
        same = usual.get(where, 0) * of_long >= _AS_USUAL * ns * of_usual > 0
        told = replace(where, kind=TRAINING) if where.kind is None and same else where
        found[told] = found.get(told, 0) + ns
    return found
