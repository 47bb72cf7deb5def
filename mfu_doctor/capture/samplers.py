"""What is sampled beside the steps: devices during the recording, processor time and the thread's place in their phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from mfu_doctor.capture.destination import working_directory
from mfu_doctor.capture.device.watch import DeviceWatch
from mfu_doctor.capture.facts.host import Busy, Stretch, busy_now
from mfu_doctor.capture.loop.children import Children
from mfu_doctor.capture.loop.run_watch import RunWatch
from mfu_doctor.capture.loop.schedule import Phase
from mfu_doctor.capture.loop.stack_sampler import StackSampler
from mfu_doctor.capture.loop.training_thread import TrainingThread
from mfu_doctor.capture.loop.worker_looks import WorkerLooks
from mfu_doctor.capture.profiler import under_way
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.capture.seen import Request, Seen
from mfu_doctor.units import NS_PER_S

P = ParamSpec("P")
T = TypeVar("T")

_PADDING = "padding could not be looked at"


class Samplers:
    """Fills the samples into what was seen, and notes which processes are started meanwhile.

    Args:
        request: what the user asked for.
        seen: where the samples go.
        watch: looks at the thread beside the recording; not while a profiler records the stacks of all threads.
        thread: the thread that trains.
    """

    def __init__(self, request: Request, seen: Seen, watch: RunWatch, thread: TrainingThread) -> None:
        self.devices = DeviceWatch(watch.notes, request.nvml, request.current_devices)
        self._seen, self._watch, self._thread, self._base = seen, watch, thread, working_directory()
        self.children = Children(self._base, watch.notes)
        self._workers = WorkerLooks(self._base, watch.notes)
        self._frames: StackSampler | None = None
        self._rest: tuple[Busy, int] | None = (
            None  # when the rest of the run began, and the nanoseconds of steps until then
        )

    def start(self) -> None:
        """A recording begins, or begins again: what was sampled for the former one is forgotten."""
        under_way.begins(self)
        self._seen.pauses.clear()
        self._seen.frames, self._seen.samples, self._seen.busy = (), (), (None, None)
        self._seen.rest = self._rest = None
        self._guarded("the device sampler could not start", self.devices.start)
        self._guarded("child processes could not be noted", self.children.watch)
        self._guarded("the loader's workers could not be looked at", self._workers.start)

    def enter(self, phase: Phase) -> None:
        """A phase begins."""
        self.devices.find()  # a script may begin to use another one
        if phase is Phase.TIMED:
            self._seen.busy = (self._busy_now(), None)
        elif phase is Phase.TIMING:
            self._guarded("lines could not be sampled", self._start_frames)
        elif phase is Phase.SHAPES:
            self._watch.pause()
            padded = self._reading_inputs
            self._reading_calls(self._seen.calls.watch, self._reading_calls, self._thread.current, padded)

    def leave(self, phase: Phase) -> None:
        """It has ended."""
        if phase is Phase.TIMED:
            self._seen.busy = (self._seen.busy[0], self._busy_now())
        elif phase is Phase.TIMING:
            self._stop_frames()
        elif phase is Phase.SHAPES:
            if self._seen.calls.watching:
                with without_user_modes():
                    self._guarded(_PADDING, self._seen.padded.look)
            self._seen.padded.forget()
            self._remove_calls()
            self._watch.resume()

    def _reading_inputs(self, module: Any, args: tuple[Any, ...]) -> None:
        with without_user_modes():
            self._seen.padded.called(module, args)

    def differentiated(self, gradients: object) -> None:
        """A backward pass gave these."""
        if self._seen.derived.waits:
            with without_user_modes():
                self._watch.aside("gradients were not compared", self._seen.derived.ended, gradients)

    def fetched(self) -> None:
        """The loop has got a batch."""
        self._guarded("what the loader's workers told could not be read", self._workers.read)

    def look_on(self) -> None:
        """The recording is over and written; the block may go on. Again, in any thread, once its report is made."""
        training = (
            self._rest[0].threads.training if self._rest is not None and self._rest[0].threads is not None else None
        )
        busy = self._busy_now(training) if self._watch.onlooker is not None else None
        self._rest = None if busy is None else (busy, self._watch.clock.times.total_ns)

    def stop(self) -> None:
        """The recording is over, or the block; each part is stopped, whatever becomes of the others."""
        under_way.ends(self)
        self._stop_frames()
        self._remove_calls()
        self._seen.padded.forget()
        self._guarded("child processes could not be left alone", self.children.stop)
        self._seen.worker_frames += (
            self._guarded("the loader's workers could not be left alone", self._workers.stop) or ()
        )
        sampled = self._guarded("the device sampler could not be stopped", self.devices.stop)
        if sampled is not None:
            self._seen.samples, self._seen.sampler_status = sampled
        busy = self._busy_now() if self._rest is not None else None
        if self._rest is not None and busy is not None:
            before, stepped_ns = self._rest
            self._seen.rest = Stretch(before, busy, (self._watch.clock.times.total_ns - stepped_ns) / NS_PER_S)
        self._rest = None

    def _guarded(self, what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        return self._watch.notes.guarded(what, call, *args, **kwargs)

    def _busy_now(self, training: int | None = None) -> Busy | None:
        loading = self._seen.loop.loading
        return self._guarded("processor times could not be read", busy_now, loaders=loading, training=training)

    def _reading_calls(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with without_user_modes():
            self._guarded("calls of modules could not be watched", call, *args, **kwargs)

    def _remove_calls(self) -> None:
        self._guarded("calls of modules could not be left alone", self._seen.calls.remove)

    def _start_frames(self) -> None:
        sampler = StackSampler(self._thread.current, self._base)
        sampler.start()
        self._frames = sampler

    def _stop_frames(self) -> None:
        sampler, self._frames = self._frames, None
        if sampler is not None:
            self._seen.frames = self._guarded("lines could not be sampled", sampler.stop) or ()
