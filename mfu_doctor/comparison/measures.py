"""Budgets: the limits of a run, parsed once from the user's text into numbers with a direction.

Options, pyproject.toml and ``report.check(...)`` all use this module, so spelling, units and error messages are the same in all
three. A budget is absolute ("450ms", "30%", 0) or relative to the baseline ("+5%" of time, "+0" of a count).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.units import parse_duration, parse_share

SECONDS, SHARE, COUNT = "s", "share", "count"
LARGEST = 1e15  # of any limit: more seconds or launches than any step has, and still exact

_RELATIVE_TIME = re.compile(r"^\s*\+\s*([0-9]*\.?[0-9]+)\s*%\s*$")
_PLAIN_COUNT = re.compile(r"^\s*(\+\s*)?([0-9]+(?:\.[0-9]+)?)\s*$")


class Measure(Struct, frozen=True):
    """Something a budget can limit; `name` is its Python name, with dashes its name in configuration and options.

    Attributes:
        title: what it is, in words.
        unit: s, share or count.
        at_least: whether more is better.
        structural: whether it is a count of the run, without noise.
        of_job: whether only all ranks together have it.
    """

    name: str
    title: str
    unit: str
    at_least: bool = False
    structural: bool = False
    of_job: bool = False

    @property
    def option(self) -> str:
        """The name with dashes."""
        return self.name.replace("_", "-")


MEASURES = (
    Measure("step_time", "step time", SECONDS),
    Measure("mfu", "MFU", SHARE, at_least=True),
    Measure("data_loading", "data loading share", SHARE),
    Measure("communication", "exposed communication share", SHARE),
    Measure("memory_copy", "exposed copy share", SHARE),
    Measure("idle", "idle share", SHARE),
    Measure("syncs", "syncs per step", COUNT, structural=True),
    Measure("launches", "launches per step", COUNT, structural=True),
    Measure("pageable_copies", "pageable copies per step", COUNT, structural=True),
    Measure("fp32_matmuls", "fp32 matmuls per step", COUNT, structural=True),
    Measure("recompilations", "recompilations per step", COUNT, structural=True),
    Measure("loader_workers", "loader workers", COUNT, at_least=True, structural=True),
    Measure("unfused_optimizer_kernels", "unfused optimizer kernels per step", COUNT, structural=True),
    Measure("collectives", "collectives per step", COUNT, structural=True),
    # Of a job alone, see result/job_as_run.py.
    Measure("job_step_time", "job's step time", SECONDS, of_job=True),
    Measure("wait_for_ranks", "share of the step in which ranks wait for others", SHARE, of_job=True),
    Measure("rank_spread", "excess of the slowest rank's work over the mean, as share of the step", SHARE, of_job=True),
)
BY_NAME = {measure.name: measure for measure in MEASURES}


class Budget(Struct, frozen=True):
    """One limit: `limit` is in the measure's unit, or where `relative` the allowed increase over the baseline.

    A relative increase is a fraction for seconds (0.05) and a number for counts.
    """

    measure: Measure
    limit: float
    relative: bool
    text: str  # as the user wrote it

    @property
    def name(self) -> str:
        """The measure's name with dashes."""
        return self.measure.option

    def bound(self, baseline: float | None) -> float:
        """The limit as an absolute number in the measure's unit."""
        if not self.relative or baseline is None:
            return self.limit
        grown = baseline * (1 + self.limit) if self.measure.unit == SECONDS else baseline + self.limit
        return baseline - self.limit if self.measure.at_least else grown


def parse_budgets(given: Mapping[str, object]) -> tuple[Budget, ...]:
    """Budgets from names (dashes or underscores) and what the user wrote for each.

    Raises:
        DoctorError: an unknown name (with a suggestion) or a value that is not a budget of that measure.
    """
    budgets: dict[str, Budget] = {}
    for name, value in given.items():
        measure = BY_NAME.get(name.replace("-", "_"))
        if measure is None:
            raise DoctorError(f"unknown budget {name!r}", suggest(name, [m.option for m in MEASURES]))
        budgets[measure.name] = parse_budget(measure, value)
    return tuple(budgets[measure.name] for measure in MEASURES if measure.name in budgets)


def parse_budget(measure: Measure, value: object) -> Budget:
    """One budget from a text such as "+5%", "450ms", "30%", "+0", or from a number in the measure's unit.

    Raises:
        DoctorError: the value is not a budget of this measure.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DoctorError(f"invalid value {value!r} for budget {measure.option}", _example(measure))
    if not isinstance(value, str) and not abs(value) <= LARGEST:
        raise DoctorError(f"budget {measure.option} is no number below {LARGEST:g}", _example(measure))
    text = str(value)
    if measure.unit == SECONDS:
        limit, relative = _time(measure, value)
    elif measure.unit == SHARE:
        limit, relative = _share(measure, value), False
    else:
        limit, relative = _count(measure, text)
    if limit > LARGEST:
        raise DoctorError(f"budget {measure.option} is no number below {LARGEST:g}", _example(measure))
    return Budget(measure, limit, relative, text.strip())


def _time(measure: Measure, value: str | float) -> tuple[float, bool]:
    if not isinstance(value, str):
        if not 0 < value < float("inf"):
            raise DoctorError(f"invalid value {value!r} (seconds) for budget {measure.option}", _example(measure))
        return float(value), False
    grown = _RELATIVE_TIME.match(value)
    if grown:
        return float(grown.group(1)) / 100, True
    try:
        return parse_duration(value), False
    except DoctorError as error:
        raise DoctorError(f"invalid value {value!r} for budget {measure.option}", _example(measure)) from error


def _share(measure: Measure, value: str | float) -> float:
    try:
        share = parse_share(value) if isinstance(value, str) else float(value)
    except DoctorError as error:
        raise DoctorError(f"invalid value {value!r} for budget {measure.option}", _example(measure)) from error
    if not 0 <= share <= 1:
        raise DoctorError(f"invalid value {value!r} ({100 * share:g} %) for budget {measure.option}", _example(measure))
    return share


def _count(measure: Measure, text: str) -> tuple[float, bool]:
    match = _PLAIN_COUNT.match(text)
    if match is None:
        raise DoctorError(f"invalid value {text!r} for budget {measure.option}", _example(measure))
    return float(match.group(2)), bool(match.group(1))


def _example(measure: Measure) -> str:
    if measure.unit == SECONDS:
        return 'write "450ms" for an absolute limit or "+5%" for a limit relative to the baseline'
    if measure.unit == SHARE:
        return 'write a percentage such as "30%"'
    return 'write a count such as 0, or "+0" for the count of the baseline'
