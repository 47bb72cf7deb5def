"""Units: the constants that turn integer nanoseconds into what a person or JSON reads, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import asdict

from mfu_doctor.errors import DoctorError

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
PETA = 1e15
TERA = 1e12
GIGA = 1e9
MEGA = 1e6
KILO = 1e3
MILLI = 1e-3

# No quantity in a file is larger: seconds of three centuries, a time past an int64, more FLOP than were ever computed.
MOST_SECONDS, MOST_NS, LARGEST = 1e10, 9e18, 1e30
_RATES = ("bytes_s", "flops_s")
# Fields that are a share of a peak, which nothing exceeds but by rounding.
_OF_PEAK = frozenset({"mfu", "mfu_low", "mfu_high", "lower_mfu", "hfu", "causal", "by_dtype", "upper"})
WHOLE = 1 + 1e-6

_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ns|us|ms|s)\s*$")
_SCALE = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(nanoseconds: float) -> float:
    """Nanoseconds to seconds."""
    return nanoseconds / NS_PER_S


def parse_duration(text: str) -> float:
    """Seconds from a text such as "450ms" or "1.2s".

    Raises:
        DoctorError: the text has no unit or is not a number.
    """
    match = _DURATION.match(text)
    if match is None:
        raise DoctorError(f"{text!r} is not a duration", "write a number with a unit, such as 450ms or 1.2s")
    return float(match.group(1)) * _SCALE[match.group(2)]


def parse_share(text: str) -> float:
    """A fraction from a percentage such as "30%" (0.3).

    Raises:
        DoctorError: the text is not a percentage.
    """
    stripped = text.strip()
    try:
        if stripped.endswith("%"):
            return float(stripped[:-1]) / 100
    except ValueError:
        pass
    raise DoctorError(f"{text!r} is not a percentage", "write it with a percent sign, such as 30%")


def impossible(value: object, name: str = "") -> str | None:
    """Name of the first number in a tree of structs that no quantity of its unit can be, or None.

    Args:
        value: what was read.
        name: its field; the end of the name is its unit.
    """
    if isinstance(value, int | float):
        return None if _can_be(value, name) else name
    parts: Iterable[tuple[object, str]] = ()
    if isinstance(value, Struct):
        parts = ((part, field) for field, part in asdict(value).items())
    elif isinstance(value, dict):
        parts = ((part, str(key)) for key, part in value.items())
    elif isinstance(value, tuple | list):
        parts = ((part, name) for part in value)
    return next((found for part, key in parts if (found := impossible(part, key)) is not None), None)


def _can_be(value: float, name: str) -> bool:
    if name in _OF_PEAK:
        return 0 <= value <= WHOLE
    if name.endswith("_ns"):
        return 0 <= value <= MOST_NS
    if name.endswith("_s") and not name.endswith(_RATES):
        return abs(value) <= MOST_SECONDS
    return abs(value) <= LARGEST
