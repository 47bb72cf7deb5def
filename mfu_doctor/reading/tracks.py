"""Which thread or stream each event ran on, as small integers.

Ids of processes and threads are numbers in most files and strings in some ("25738", "stream 7", "Spans"); both spellings
of one number are the same track.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading.schema import ABSENT
from mfu_doctor.trace import Track

FIRST_TEXT = -(2**51)  # codes of ids that are not numbers count down from here; exact in a float64
_LONGEST_NUMBER = 18  # digits: what fits 64 bits
_NUMBER = re.compile(rf"0|[1-9][0-9]{{,{_LONGEST_NUMBER - 1}}}")
LARGEST_ID = 2.0**53  # larger ones are damage, and not exact
# Views have a row for each device. Some files write the process id instead, which Linux counts up to here.
MOST_DEVICES = 2**22
_MAX_TRACKS = np.iinfo(np.int16).max
_HOST = np.int64(np.iinfo(np.int64).min)  # "not on a device", where a device index would be


class TrackTable:
    """Gives each distinct (process, thread) or (device, stream) of a file its index."""

    def __init__(self) -> None:
        self._codes: dict[str, float] = {}
        self._texts: list[str] = []
        self._tracks: dict[Track, int] = {}
        self._known: dict[tuple[int, int, int], int] = {}

    def code(self, value: object) -> float:
        """A float that stands for a process, thread, stream or device id."""
        if isinstance(value, int | float) and value > FIRST_TEXT:
            return float(value)
        text = "" if value is None else str(value)
        number = text.removeprefix("stream ")
        if _NUMBER.fullmatch(number) and int(number) < -FIRST_TEXT:
            return float(number)
        if text not in self._codes:
            self._codes[text] = float(FIRST_TEXT - len(self._texts))
            self._texts.append(text)
        return self._codes[text]

    def misleads(self, records: npt.NDArray[np.void]) -> bool:
        """Whether an id of these records is a number that would be taken for a code."""
        lowest = [np.where(records[key] == ABSENT, 0, records[key]).min(initial=0) for key in ("stream", "device")]
        return bool(min(records["pid"].min(initial=0), records["tid"].min(initial=0), *lowest) <= FIRST_TEXT)

    def on_unknown_device(
        self, records: npt.NDArray[np.void], on_device: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which records ran on a device that cannot be, shape (n,): its index is too small or too large."""
        if not on_device.any():
            return np.zeros(len(records), np.bool_)
        index = _devices_of(records)
        unknown = on_device & (index > FIRST_TEXT) & ~_can_be(index)
        for i in np.flatnonzero(on_device & (index <= FIRST_TEXT)).tolist():
            unknown[i] = self._device(int(index[i]), _stream_of(records[i])) > MOST_DEVICES
        return unknown

    def assign(self, records: npt.NDArray[np.void], on_device: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
        """Track index of each record, shape (n,).

        On a device the arguments `device` and `stream` win over pid and tid, which some files use for something else.
        """
        pid, tid = records["pid"].astype(np.float64), records["tid"].astype(np.float64)
        device = np.full(len(records), _HOST)
        if on_device.any():
            stream = records["stream"]
            tid = np.where(on_device & (stream != ABSENT), stream, tid)
            device = np.where(on_device, _devices_of(records), _HOST)
        keys = (_whole(pid), _whole(tid), device)
        changed = np.zeros(len(records), np.bool_)
        changed[0] = True
        for key in keys:
            changed[1:] |= key[1:] != key[:-1]
        # Neighbours mostly share their track, so only the first of each run is looked up.
        first = np.flatnonzero(changed)
        runs = zip(*(key[first].tolist() for key in keys), strict=True)
        found = np.array([self.track(*run) for run in runs], np.int64)
        return np.repeat(found, np.diff(np.append(first, len(records)))).astype(np.int16)

    def tracks(self) -> tuple[Track, ...]:
        """All tracks, in order of their index."""
        return tuple(self._tracks)

    def track(self, pid: int, tid: int, device: int) -> int:
        """Index of the track of these numbers or codes; `device` says if there is none."""
        run = pid, tid, device
        index = self._known.get(run)
        if index is not None:
            return index
        number = None if device == int(_HOST) else device if device > FIRST_TEXT else self._device(device, tid)
        index = self.index(Track(self.text(pid), self.text(tid), number))
        self._known[run] = index
        return index

    def index(self, track: Track) -> int:
        """Index of a track, a new one if it was not met before."""
        index = self._tracks.setdefault(track, len(self._tracks))
        if index > _MAX_TRACKS:
            raise NotATraceError(
                f"the file has more than {_MAX_TRACKS:,} threads and streams",
                "keep only the events of one process (filter by pid)",
            )
        return index

    def text(self, code: int) -> str:
        """The id that a code stands for, as the file writes it."""
        if code > FIRST_TEXT:
            return str(code)
        return self._texts[FIRST_TEXT - code]

    def _device(self, pid: int, tid: int) -> int:
        """Device index if the process id is a text: its digits ("GPU 3"), else the thread id ("CUDA functions")."""
        digits = "".join(c for c in self.text(pid) if c.isdecimal())
        return int(digits[:_LONGEST_NUMBER]) if digits else max(0, tid)


def _devices_of(records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Index of the device; where the event names none, or one that cannot be, its process: Kineto writes the index there too."""
    index, pid = _whole(records["device"].astype(np.float64)), _whole(records["pid"].astype(np.float64))
    named = (records["device"] != ABSENT) & ((index <= FIRST_TEXT) | _can_be(index) | ~_can_be(pid))
    return np.where(named, index, pid)


def _can_be(index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return (index >= -1) & (index <= MOST_DEVICES)


def _stream_of(record: np.void) -> int:
    return int(record["tid"] if record["stream"] == ABSENT else record["stream"])


def _whole(ids: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.clip(ids, -LARGEST_ID, LARGEST_ID).astype(np.int64)
