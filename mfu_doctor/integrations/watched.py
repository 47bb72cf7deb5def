"""A training that a library runs: recorded at first if wished, and metered throughout. What all callbacks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.meter.meter import Meter, check_counts
from mfu_doctor.meter.reading import SCALARS, MeterReading
from mfu_doctor.session.profile import profile
from mfu_doctor.session.recorder import Recorder

FAILED = "the numbers of a step could not be logged"
_NO_NUMBERS = "the training has no numbers of its steps"
_NOT_CLOSED = "the hooks of the meter could not be removed"


class Watched:
    """One training after another, each between `begin` and `end`.

    Args:
        options: of `profile()`; `model_flops` and `peak_flops` hold for the meter too.
        record: whether steps are recorded, and the report printed.
        log: which numbers of a reading are logged, and under what names; None: all, under their own.
        tokens_per_step: as for `Meter`.

    Attributes:
        enabled: if False, no method does anything, as with `profile()`.

    Raises:
        DoctorError: an option is not valid, or a setting of pyproject.toml.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        record: bool,
        log: Mapping[str, str] | None,
        tokens_per_step: int | None,
    ) -> None:
        check_counts("MfuCallback", tokens_per_step=tokens_per_step)
        unknown = [name for name in log or () if name not in SCALARS]
        if unknown:
            raise DoctorError(f"log={{{unknown[0]!r}: ...}} names no number of a reading", f"use {', '.join(SCALARS)}")
        recorder = profile(**options)  # refuses what is not valid
        settings_here()  # likewise: the meter reads them, and by then the model is loaded
        self.enabled = bool(options.get("enabled", True))
        self._begun = False
        self.recorder: Recorder | None = recorder if record else None
        self.meter: Meter | None = None
        self._names = {name: name for name in SCALARS} if log is None else log
        self._given: dict[str, Any] = {
            "flops_per_step": options.get("model_flops"),
            "peak_flops": options.get("peak_flops"),
            "tokens_per_step": tokens_per_step,
        }
        self._reading: MeterReading | None = None
        self.notes = Notes()

    @property
    def told(self) -> tuple[str, ...]:
        """What could not be measured or logged, and why."""
        return (*self.notes.said, *(self.meter.notes if self.meter is not None else ()))

    @property
    def numbers(self) -> dict[str, float]:
        """What is known after the last step, under the names for the log."""
        known = {} if self._reading is None else self._reading.scalars
        return {self._names[name]: value for name, value in known.items() if name in self._names}

    def begin(self, model: object) -> None:
        """A training begins. One that began and never ended has failed: libraries do not always tell."""
        self.end()
        if not self.enabled:
            return
        self._begun = True
        if self.recorder is not None:
            self.recorder.start()
        self.meter = self.notes.guarded(_NO_NUMBERS, Meter, model, **self._given)

    def step(self) -> None:
        """A step of the training has ended."""
        if self.meter is not None:
            self._reading = self.meter.step()
        if self.recorder is not None:
            self.recorder.step()

    def paused(self) -> None:
        """What came since the last step was no training: an evaluation, a checkpoint."""
        if self.meter is not None:
            self.meter.reset()

    def end(self, error: BaseException | None = None) -> None:
        """The training has ended, or this error ended it; safe to call twice."""
        meter, self.meter, self._reading = self.meter, None, None
        if meter is not None:
            self.notes.guarded(_NOT_CLOSED, meter.close)
            for note in meter.notes:
                self.notes.say(note)
        begun, self._begun = self._begun, False
        if begun and self.recorder is not None:
            self.recorder.__exit__(None if error is None else type(error), error, None)


class Watching:
    """What the callbacks of all libraries are made with.

    Args:
        record: whether steps are recorded, and the report printed.
        log: which numbers are logged, and under what names, such as {"mfu": "mfu"}; None: all, under their own names.
        tokens_per_step: tokens of one step of this process; None: those of batches that name them "input_ids".
        **options: passed to `mfu_doctor.profile`, such as `path=` or `at_step=`; `model_flops` and `peak_flops` hold for the
            log too, and with `enabled=False` nothing is recorded, measured or logged.

    Attributes:
        recorder: what `profile()` returns, with the report; None without `record`.

    Raises:
        DoctorError: an option is not valid, or a setting of pyproject.toml.
    """

    def __init__(
        self,
        *,
        record: bool = True,
        log: Mapping[str, str] | None = None,
        tokens_per_step: int | None = None,
        **options: Any,
    ) -> None:
        self._watched = Watched(options, record=record, log=log, tokens_per_step=tokens_per_step)
        self.recorder = self._watched.recorder
        if self._watched.enabled:
            self._made()

    def _made(self) -> None:
        """The callback exists, and it is enabled: for a library that does not tell its callbacks of a failure."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be measured or logged, and why."""
        return self._watched.told
