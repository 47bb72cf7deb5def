"""What a meter says after a step: plain numbers, each of them None with a reason if it is not known."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from msgspec import Struct

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.meter.step_work import StepWork
from mfu_doctor.meter.window import Step, Window
from mfu_doctor.quantities import counted
from mfu_doctor.units import NS_PER_S, TERA

_MS_PER_S = 1e3
_NO_STEP = "no whole step has ended yet: the first call of step() starts the clock"
_DISTURBED = "no step of the window ran as usual: they were recorded, or held an evaluation"
_NO_LOADER = "no batch of a torch DataLoader was seen"
_NO_SAMPLES = "neither the loader nor the rows of its tensors tell the samples of a batch"
_INTERRUPTED = "working it out was interrupted"
_NO_MEMORY = "the allocator does not tell"
# Value by the name under which a logger gets it; units are in these, because a curve has no other place for them.
SCALARS = {
    "mfu": "mfu",
    "tflops": "tflops",
    "step_time_s": "step_time",
    "data_wait_s": "data_wait",
    "samples_per_second": "samples_per_second",
    "tokens_per_second": "tokens_per_second",
    "memory_peak_bytes": "memory_peak_bytes",
}


class Measured(NamedTuple):
    """What a reading tells.

    Attributes:
        counted: whether this step was recorded to count its FLOPs.
        memory_peak_bytes: the most that was used.
        steps: that the means are over.
        last_ns: what this step took.
        fed: whether a loader has brought batches.
        work: of a step, as it was counted last.
        why: why the work of steps is not known, if it is not.
    """

    counted: bool = False
    memory_peak_bytes: int | None = None
    steps: tuple[Step, ...] = ()
    last_ns: int | None = None
    fed: bool = False
    work: StepWork | None = None
    why: str = _NO_STEP


class Working(Protocol):
    """What works out readings."""

    @property
    def notes(self) -> Notes:
        """Where it says why it could not."""

    def work_out(self) -> None:
        """Tell all readings what was measured."""


class MeterReading(Struct, eq=False):
    """One reading. Times are those of the host between two calls of `step()`: nothing waits for the device.

    A GPU works behind the host, so a single step means little there and the mean over a window is right. All of it is worked out
    when it is asked for, as it was when the step ended.

    Attributes:
        step: number of the step that ended, from 0.
        measured: what it tells, once it is worked out.
        marked: when the step ended, and what samples and tokens the program states.
    """

    step: int
    measured: Measured | None = Measured()
    _ledger: Working | None = None
    marked: tuple[int, int | None, int | None] = (0, None, None)

    def __repr__(self) -> str:
        return f"MeterReading(step={self.step}, counted={self.counted}, {self})"

    def __reduce__(self) -> tuple[type[MeterReading], tuple[int, Measured]]:
        """A copy, and what another process gets, is what was measured."""
        return MeterReading, (self.step, self._told)

    @property
    def _told(self) -> Measured:
        if self.measured is None and self._ledger is not None:
            self._ledger.work_out()
            if self.measured is None:
                self.measured = Measured(why=next(reversed(self._ledger.notes.said), _INTERRUPTED))
        self._ledger = None
        return self.measured or Measured()

    @property
    def counted(self) -> bool:
        """Whether this step was recorded to count its FLOPs. That makes it slow, so it is in no mean."""
        return self._told.counted

    @property
    def memory_peak_bytes(self) -> int | None:
        """The most that tensors took on the GPU so far; without a GPU, that the process had resident."""
        return self._told.memory_peak_bytes

    @property
    def _window(self) -> Window:
        return Window(self._told.steps)

    @property
    def window(self) -> int:
        """Steps that the means are over; 0 if there are none: none has ended, or none of the latest ran as usual."""
        return len(self._told.steps)

    @property
    def smoothing(self) -> str:
        """How the means are made, in words."""
        if not self.window:
            return "no mean: no step to take it of"
        latest = self.step - self._told.steps[0].number + 1
        of = "" if latest == self.window else f"{self.window} of "
        why = "" if latest == self.window else ", those without a recording or an evaluation"
        return f"plain mean of {of}the last {counted(latest, 'step')}{why}, by the host's clock"

    @property
    def last_step_time(self) -> float | None:
        """Seconds of this step alone."""
        last_ns = self._told.last_ns
        return None if last_ns is None else last_ns / NS_PER_S

    @property
    def step_time(self) -> float | None:
        """Mean seconds of a step."""
        return self._window.step_s

    @property
    def data_wait(self) -> float | None:
        """Mean seconds that a step waited for its batches."""
        return self._window.wait_s if self._told.fed else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs over what the device could have computed in that time, as in a report."""
        mfu = self._window.mfu
        return None if mfu is None or mfu > 1 else mfu

    @property
    def flops_per_step(self) -> float | None:
        """Mean model FLOP of a step."""
        return self._window.flops

    @property
    def tflops(self) -> float | None:
        """Model FLOP that were computed in a second, in 10^12."""
        flops_s = self._window.flops_s
        return None if flops_s is None else flops_s / TERA

    @property
    def samples_per_second(self) -> float | None:
        """As many as the loaders put together, else the rows that all tensors of a batch share."""
        return self._window.samples_s

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens."""
        return self._window.tokens_s

    @property
    def lower_bound(self) -> tuple[str, ...]:
        """Operators that multiply and whose FLOPs are not known: with them MFU would be higher."""
        work = self._told.work
        return () if work is None else work.unknown

    @property
    def scalars(self) -> dict[str, float]:
        """What is known, as numbers for a logger: `wandb.log`, `mlflow.log_metrics`, a scalar each for TensorBoard."""
        told = ((shown, getattr(self, name)) for shown, name in SCALARS.items())
        return {shown: float(value) for shown, value in told if value is not None}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a value is None, by its name."""
        return {name: self._reason(name) for name in SCALARS.values() if getattr(self, name) is None}

    def _reason(self, name: str) -> str:
        if name == "memory_peak_bytes":
            return _NO_MEMORY
        if not self._told.steps:
            return _NO_STEP if self._told.last_ns is None else _DISTURBED
        if name == "samples_per_second":
            return f"{_NO_SAMPLES if self._told.fed else _NO_LOADER}: pass step(samples=...)"
        if name == "data_wait":
            return _NO_LOADER
        if name == "tokens_per_second":
            return "no batch of token ids was seen: pass tokens_per_step="
        work, above = self._told.work, self._window.mfu
        if name == "mfu" and above is not None:
            return f"{above:.0%} of the peak is not possible: the peak is too low, or the FLOPs are too many"
        if name == "mfu" and work is not None and self._window.flops is not None and work.peak.reason is not None:
            return work.peak.reason
        return (work.reason if work is not None else None) or self._told.why

    def __str__(self) -> str:
        """As nanoGPT logs it: "time 33.27ms, mfu 10.63%"; "-" for what is not known."""
        return f"time {milliseconds(self.step_time)}, mfu {share(self.mfu)}"


def milliseconds(seconds: float | None) -> str:
    """The time of a step in a log line."""
    return "-" if seconds is None else f"{seconds * _MS_PER_S:.2f}ms"


def share(mfu: float | None) -> str:
    """MFU in a log line."""
    return "-" if mfu is None else f"{mfu:.2%}"
