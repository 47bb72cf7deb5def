"""`Meter`: the honest log line of a training, for a few microseconds a step and without waiting for the device."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import Any, Self

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.device.usage import memory_peak
from mfu_doctor.capture.loop.forks import Process
from mfu_doctor.capture.loop.step_feed import StepFeed
from mfu_doctor.capture.profiler.session import any_live
from mfu_doctor.capture.profiler.under_way import recording_here
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.overrides import check_model_flops, check_peak_flops
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.meter.across import AcrossRanks
from mfu_doctor.meter.counting import StepCounter
from mfu_doctor.meter.peak import DevicePeak, Machine, live_peaks, told
from mfu_doctor.meter.reading import MeterReading
from mfu_doctor.meter.step_work import StepWork, stated
from mfu_doctor.meter.window import Step, Window
from mfu_doctor.units import NS_PER_S

WINDOW = 10
"""Steps that the means of a reading are over."""

_MEMORY_EVERY_NS = NS_PER_S // 2  # to ask the allocator takes longer than all the rest
_FAILED = "a step could not be measured"
_new = tuple.__new__  # what a named tuple's own calls, after a frame of Python


class Meter:
    """Measures each step of a training: call `step()` where a step has ended.

    The FLOPs of a step are counted once, exactly, from one step that a profiler records with shapes; again when the shapes of
    the batches or of the loss change. A recorded step is slow and says so (`counted`). On a CPU its peak is measured then too.
    Steps that `profile()` records, and those in which it stops the profiler and writes, are in no mean.
    Nothing is changed that the training computes, and nothing waits for the device.

    Args:
        model: the model in training: it tells on which kind of device, if the process uses several.
        flops_per_step: model FLOP of one step of this process; None: counted.
        tokens_per_step: tokens of one step of this process; None: those of batches that name them "input_ids".
        peak_flops: dense peak of one device in FLOP/s; None: as `device_peak()` tells.
        window: steps that the means of a reading are over.

    Raises:
        DoctorError: a number is not valid.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        flops_per_step: float | None = None,
        tokens_per_step: int | None = None,
        peak_flops: float | None = None,
        window: int = WINDOW,
    ) -> None:
        check_model_flops(flops_per_step, "flops_per_step")
        check_peak_flops(peak_flops, "peak_flops")
        check_counts("Meter", tokens_per_step=tokens_per_step, window=window)
        self._tokens = tokens_per_step
        self._notes = Notes()
        self._machine = Machine.of(peak_flops, model)
        self._stated = _stated(flops_per_step, self._machine)
        self._steps: deque[Step] = deque(maxlen=window)
        self._feed = StepFeed(self._notes)
        self._counter = StepCounter(self._machine, self._notes)
        self._step, self._since_ns = -1, 0
        self._profiled = self._recording = (
            False  # at the end of the last step: by a session of ours; a recording was under way
        )
        self._memory, self._asked_ns = memory_peak(), 0
        self._forks = Process.forks
        self._feed.start()
        self._release = weakref.finalize(self, _release, self._feed, self._counter)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be measured, and why."""
        return tuple(self._notes.said)

    @property
    def peak(self) -> DevicePeak | None:
        """What MFU is measured against; None before the FLOPs of a step were counted."""
        work = self._stated or self._counter.latest
        return None if work is None else work.peak

    def step(self, *, samples: int | None = None, tokens: int | None = None) -> MeterReading:
        """A step of the training has ended.

        Args:
            samples: rows of its batches; None: those of the DataLoader's.
            tokens: of its batches; None: as the meter was told or has seen.
        """
        reading = self._notes.guarded(_FAILED, self._ended, time.perf_counter_ns(), samples, tokens)
        if reading is None:
            self._since_ns = 0
            self._notes.guarded(_FAILED, self._give_up)
            reading = MeterReading(self._step, _why=self._notes.said[-1])
        return reading

    def reset(self) -> None:
        """What came since the last step was no training (an evaluation, a checkpoint): the next step begins now."""
        self._notes.guarded(_FAILED, self._counter.afresh)
        self._since_ns = time.perf_counter_ns()
        self._feed.forget()

    def recount(self) -> None:
        """Count the FLOPs of a step again: the work has changed although no shape shows it."""
        self._counter.again()

    def across_ranks(self) -> AcrossRanks:
        """MFU and speed of all ranks together, by one small reduction. All ranks must call it, and it waits for them."""
        work = self._stated or self._counter.latest
        return AcrossRanks.of(Window(tuple(self._steps)), None if work is None else work.peak.flops)

    def close(self) -> None:
        """Remove all hooks; `step()` goes on to measure times. It is safe to call this twice, or never."""
        self._release()

    def __enter__(self) -> Self:
        """The same meter; it is closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _ended(self, now: int, samples: int | None, tokens: int | None) -> MeterReading:
        """In few calls and with few objects: see `step_feed` for what they cost here."""
        if self._forks != Process.forks:
            self._begin_in_child()
        feed, counter, work, since = self._feed, self._counter, self._stated, self._since_ns
        feed.thread = threading.get_ident()  # who calls this is the one that trains
        fed, profiled, recording = feed.step_ended(), any_live(), recording_here()
        self._step += 1
        counted = False
        if work is None and since:
            work = counter.known.get(fed.shapes)
            if work is None or not counter.rests:
                counted = counter.between(fed.shapes, usable=not fed.evaluates)
        # A session ends in the step after those that it records, and the recording is written in the one in which it ends.
        disturbed = profiled or self._profiled or (self._recording and not recording)
        self._profiled, self._recording = profiled and not counted, recording
        if since and not (counted or disturbed or fed.evaluates):
            told = now - since, fed.waited_ns, work, samples or fed.samples, tokens or self._tokens or fed.tokens
            self._steps.append(_new(Step, told))
        if now - self._asked_ns > _MEMORY_EVERY_NS:
            self._memory, self._asked_ns = memory_peak(), now
        self._since_ns = time.perf_counter_ns() if counted else now
        latest = self._stated or counter.latest
        took = now - since if since else None
        return MeterReading(
            self._step, counted, self._memory, tuple(self._steps), took, feed.fed, latest, counter.reason
        )

    def _give_up(self) -> None:
        self._counter.drop()

    def _begin_in_child(self) -> None:
        """This process was forked: the hooks of the parent do not tell it anything."""
        self._release.detach()
        self._feed.stop()
        self._forks, self._since_ns = Process.forks, 0
        self._feed = StepFeed(self._notes)
        self._counter = StepCounter(self._machine, self._notes)
        self._feed.start()
        self._release = weakref.finalize(self, _release, self._feed, self._counter)


def _release(feed: StepFeed, counter: StepCounter) -> None:
    feed.stop()
    counter.stop()


def _stated(flops: float | None, machine: Machine) -> StepWork | None:
    known = settings_here().model_flops if flops is None else flops
    if known is None:
        return None
    peaks = live_peaks(machine, ())
    return stated(known, told(peaks, "fp32" if peaks.kind == "cpu" else peaks.best))


def check_counts(taker: str, **counts: int | None) -> None:
    """Refuse a count that is none, by the name of the argument and of what takes it.

    Raises:
        DoctorError: it is less than 1.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise DoctorError(f"{taker}({name}={count}) is not valid", "pass 1 or more")
