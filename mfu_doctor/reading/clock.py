"""Microseconds in a file, in three eras of the format, to exact integer nanoseconds.

Until torch 2.3 times are integer microseconds since 1970; some builds of 2024 added decimals to them, which a float64
cannot hold (its steps are 0.25 us there); since 2.4 they are relative to a base that the file states in nanoseconds.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.units import NS_PER_US

_DECIMAL_EPOCH = re.compile(rb'"ts"\s*:\s*\d{16}\.\d')
_EPOCH_PREFIX = re.compile(rb'("ts"\s*:\s*)(\d{6})(?=\d{10}(?!\d))')
_KEPT_US = 10**10  # value of the first digit that is replaced: the last ten whole digits are kept
_MAX_PREFIXES = 9
EPOCH_US = 1e15  # times from here on are microseconds since 1970 (this is 2001)
# Before and after these no time is one (three years before the clock's zero, and 2096). The sum of two times that are counted
# from the first event stays inside an int64 of nanoseconds.
MIN_US, MAX_US = -1e14, 4e15
LONGEST_US = 3.2e13  # nothing in a recording lasts longer (a year)

# Kineto counts relative times from a multiple of this (a "trimonth"), libkineto/src/ApproximateClock.h
TRIMONTH_NS = 7_889_238 * 1_000_000_000

# A relative time of 0 this long before everything else is a start time that the profiler did not have.
_LOST_START_NS = 3600 * 1_000_000_000


class Clock:
    """Converts the times of one file; remembers the leading digits that were cut from them.

    Args:
        decimal_epoch: whether its times are microseconds since 1970 with decimals; see `look`.
    """

    def __init__(self, *, decimal_epoch: bool = False) -> None:
        self.decimal_epoch = decimal_epoch
        self._prefixes: list[int] = []

    def look(self, chunk: bytes) -> None:
        """Decide from the file's first events whether its times need the leading digits cut off."""
        self.decimal_epoch = _DECIMAL_EPOCH.search(chunk) is not None

    def shorten(self, chunk: bytes) -> bytes:
        """Replace the six leading digits of epoch times by one that stands for them, so that a float64 is exact."""
        if not self.decimal_epoch:
            return chunk

        def short(match: re.Match[bytes]) -> bytes:
            digit = self.digit_for(int(match.group(2)))
            return match.group(1) + b"%d" % digit if digit else match.group(0)

        return _EPOCH_PREFIX.sub(short, chunk)

    def digit_for(self, leading: int) -> int:
        """The digit that stands for the six leading ones of a time, 0 if none can."""
        if leading not in self._prefixes:
            if len(self._prefixes) == _MAX_PREFIXES or leading * _KEPT_US > MAX_US:
                return 0
            self._prefixes.append(leading)
        return self._prefixes.index(leading) + 1

    @property
    def prefixes(self) -> npt.NDArray[np.int64]:
        """What the digits 1, 2, ... stand for where they lead a time."""
        return np.array(self._prefixes, np.int64)

    def nanoseconds(self, microseconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Times in the file, shape (n,), as nanoseconds since the file's own zero."""
        whole, ns = _split(microseconds)
        if self._prefixes:
            stands_for = np.array([0, *self._prefixes], np.int64)
            leading = (whole // _KEPT_US).astype(np.int64)
            cut = (leading >= 1) & (leading <= len(self._prefixes))
            leading = np.where(cut, leading, 0)
            ns += (stands_for[leading] - leading) * _KEPT_US * NS_PER_US
        return ns

    def spans(
        self, microseconds: npt.NDArray[np.float64], duration: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Start and end of events in nanoseconds, and whether they can be, shape (n,) each."""
        start = self.nanoseconds(microseconds)
        end = start + _split(duration)[1]
        first, last = np.minimum(start, end), np.maximum(start, end)
        shown = (np.abs(microseconds) <= MAX_US) & (np.abs(duration) <= LONGEST_US)
        return start, end, shown & (first >= MIN_US * NS_PER_US) & (last <= MAX_US * NS_PER_US)


def _split(microseconds: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Whole microseconds, and nanoseconds. Apart, because a product with 1000 would pass the 53 bits of a float64."""
    bounded = np.clip(microseconds, -MAX_US, MAX_US)  # what lies outside is left out, see `spans`
    whole = np.floor(bounded)
    ns = whole.astype(np.int64) * NS_PER_US + np.rint((bounded - whole) * NS_PER_US).astype(np.int64)
    return whole, ns


def can_be(microseconds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether times in the file can be such, shape (n,)."""
    possible: npt.NDArray[np.bool_] = (microseconds >= MIN_US) & (microseconds <= MAX_US)
    return possible


def without_start(start: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which events have lost their start, shape (n,): it is at or before zero while everything else is hours later.

    Kineto writes 0 for a time before its base, and CUPTI for an operation that it could not time.
    """
    lost = start <= 0
    if not lost.any() or lost.all() or int(start[~lost].min()) <= _LOST_START_NS:
        return np.zeros(len(start), np.bool_)
    return lost


def clamp(
    start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], lost: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Repair impossible times in place; which events were touched, shape (n,).

    An end before its start becomes the start. A start that was lost becomes the first real one.
    """
    if lost.any():
        start[lost] = start[~lost].min()
    backwards = end < start
    end[backwards] = start[backwards]
    touched: npt.NDArray[np.bool_] = lost | backwards
    return touched


def recover_base(first_ns: int, last_ns: int, *, seen_ns: tuple[int, int]) -> int | None:
    """The base of relative times, given a unix interval that the recording is known to touch.

    Args:
        first_ns: first event, nanoseconds since the unknown base.
        last_ns: end of the last event, likewise.
        seen_ns: start and end of a stretch of the recording, unix nanoseconds.

    Returns:
        The base in unix nanoseconds, or None if no multiple of a trimonth fits.
    """
    newest = seen_ns[1] // TRIMONTH_NS
    for count in (newest, newest - 1):
        base = count * TRIMONTH_NS
        if base + first_ns <= seen_ns[1] and base + last_ns >= seen_ns[0]:
            return base
    return None
