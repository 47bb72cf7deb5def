"""Values that a user may pass to replace those of the trace, the device table or pyproject.toml; checked once, for all verbs."""

from __future__ import annotations

import re

from msgspec import Struct

from mfu_doctor.errors import DoctorError

SMALLEST_PEAK = 1e9  # FLOP/s: less than a single core, so a smaller number was meant in tera
LARGEST_PEAK = 1e21  # FLOP/s: a thousand times more than the largest machine, so another unit was meant
LARGEST_WORK = 1e30  # FLOP per step: more than any training took in all its steps
_STEPS = re.compile(r"^(\d{1,18}):(\d{1,18})$")


class Overrides(Struct, frozen=True, kw_only=True):
    """Stated numbers and choices; None or empty means "find out".

    Attributes:
        peak_flops: dense peak of the device in FLOP/s.
        model_flops: FLOP per step.
        steps: judge only recorded steps A <= n < B.
        select: run only these rules (names, codes or families).
        ignore: leave these rules out.
        rank: of several ranks of a run, read this one alone.

    Raises:
        DoctorError: a number is not in FLOP/s or FLOP, or the range is empty.
    """

    peak_flops: float | None = None
    model_flops: float | None = None
    steps: tuple[int, int] | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    rank: int | None = None

    def __post_init__(self) -> None:
        check_peak_flops(self.peak_flops, "--peak-flops")
        check_model_flops(self.model_flops, "--model-flops")
        if self.steps is not None and not 0 <= self.steps[0] < self.steps[1]:
            raise DoctorError(f"steps {self.steps[0]}:{self.steps[1]} is not a range", "write A:B for steps A to B-1")
        if self.rank is not None and self.rank < 0:
            raise DoctorError(f"{self.rank} is not a rank", "ranks count from 0")

    @property
    def for_traces_only(self) -> tuple[str, ...]:
        """Options in use that need the events themselves, as the command line spells them."""
        names = [name for name in ("steps", "select", "ignore") if getattr(self, name)]
        return tuple(f"--{name}" for name in (*names, *(("rank",) if self.rank is not None else ())))


def check_peak_flops(value: float | None, name: str) -> None:
    """Refuse a peak in another unit than FLOP/s.

    Raises:
        DoctorError: the number is so small that tera was meant, or larger than any peak.
    """
    if value is not None and not SMALLEST_PEAK <= value <= LARGEST_PEAK:
        raise DoctorError(f"{name} {value:g} is not a peak in FLOP/s", "write 989.5e12 for 989.5 TFLOP/s")


def check_model_flops(value: float | None, name: str) -> None:
    """Refuse what cannot be a number of FLOP.

    Raises:
        DoctorError: the number is less than one, or larger than any.
    """
    if value is not None and not 1 <= value <= LARGEST_WORK:
        raise DoctorError(f"{name} {value:g} is not a valid number of FLOPs", "write 1.28e14 for 128 TFLOP per step")


def parse_steps(text: str | None) -> tuple[int, int] | None:
    """Steps A <= n < B from "A:B".

    Raises:
        DoctorError: the text is not such a range.
    """
    if text is None:
        return None
    match = _STEPS.match(text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise DoctorError(f"--steps {text} is not a range of steps", "write A:B for steps A to B-1, such as 1:4")
    return int(match[1]), int(match[2])


def split_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Rule names from options that may be repeated and may hold several, separated by commas."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
