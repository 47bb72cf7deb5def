"""`Meter`: the honest log line of a training, for some microseconds a step and without waiting for the device.

The wider the layers, the more of them: the code of a step is read from memory anew where tensors have filled the caches. See
benchmarks/meter.py for what it takes on a machine.
"""

from __future__ import annotations

import weakref
from typing import Any, Self

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.overrides import check_model_flops, check_peak_flops
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.meter.across import AcrossRanks
from mfu_doctor.meter.ledger import Ledger
from mfu_doctor.meter.peak import DevicePeak, Machine, live_peaks, told
from mfu_doctor.meter.reading import MeterReading
from mfu_doctor.meter.step_work import StepWork, stated
from mfu_doctor.meter.window import Window

WINDOW = 10
"""The latest steps that the means of a reading are over."""


class Meter:
    """Measures each step of a training: call `step()` where a step has ended.

    The FLOPs of a step are counted once, exactly, from one step that a profiler records with shapes; again when the shapes of
    the batches or of the loss change. A recorded step is slow and says so (`counted`). On a CPU its peak is measured then too.
    Steps that `profile()` records, and those in which it stops the profiler and writes, are in no mean. Where all steps of the
    window are such, there is no mean.
    Nothing is changed that the training computes, and nothing waits for the device.

    Args:
        model: the model in training: it tells on which kind of device, if the process uses several.
        flops_per_step: model FLOP of one step of this process; None: counted.
        tokens_per_step: tokens of one step of this process; None: those of batches that name them "input_ids".
        peak_flops: dense peak of one device in FLOP/s; None: as `device_peak()` tells.
        window: the latest steps that the means of a reading are over.

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
        notes, machine = Notes(), Machine.of(peak_flops, model)
        self._ledger = Ledger(machine, _stated(flops_per_step, machine), tokens_per_step, window, notes)
        self._release = weakref.finalize(self, self._ledger.stop)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be measured, and why."""
        self._ledger.work_out()
        return tuple(self._ledger.notes.said)

    @property
    def peak(self) -> DevicePeak | None:
        """What MFU is measured against; None before the FLOPs of a step were counted."""
        self._ledger.work_out()
        work = self._ledger.latest
        return None if work is None else work.peak

    def step(self, *, samples: int | None = None, tokens: int | None = None) -> MeterReading:
        """A step of the training has ended.

        Args:
            samples: of its batches; None: those of the DataLoader's.
            tokens: of its batches; None: as the meter was told or has seen.
        """
        return self._ledger.mark(samples, tokens)

    def reset(self) -> None:
        """What came since the last step was no training (an evaluation, a checkpoint): the next step begins now."""
        self._ledger.reset()

    def recount(self) -> None:
        """Count the FLOPs of a step again: the work has changed although no shape shows it."""
        self._ledger.recount()

    def across_ranks(self) -> AcrossRanks:
        """MFU and speed of all ranks together, by one small reduction. All ranks must call it, and it waits for them."""
        steps, peak = self._ledger.steps, self.peak
        return AcrossRanks.of(Window(steps), None if peak is None else peak.flops)

    def close(self) -> None:
        """Remove all hooks; `step()` goes on to measure times. It is safe to call this twice, or never."""
        self._release()

    def __enter__(self) -> Self:
        """The same meter; it is closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


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
