"""The columns of all events of a file, filled chunk by chunk.

They are allocated once at a size that no file of that length can exceed: pages that are never written to are never
resident, and there is no second copy to join parts at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.reading.arguments import keeps_arguments
from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.codes import DROPPED, KEEPS, ON_DEVICE, UNSAID, CategoryCodes, NameCodes
from mfu_doctor.reading.dialects import CATEGORIES
from mfu_doctor.reading.memory import MEMORY
from mfu_doctor.reading.schema import ABSENT, Args, Complete, encode
from mfu_doctor.reading.tracks import FIRST_TEXT, LARGEST_ID, TrackTable
from mfu_doctor.trace import Category

_TYPES: dict[str, type[np.generic]] = {
    "start": np.int64,
    "end": np.int64,
    "name": np.int32,
    "category": np.uint8,
    "track": np.int16,
    "correlation": np.int64,
    "external_id": np.int32,
    "sequence": np.int32,
    "args": np.int32,
}
COLUMNS = tuple(_TYPES)
_BYTES_PER_EVENT = 100  # no layout writes a duration event in fewer
_GROWTH = 1.5


class Added(Struct, frozen=True):
    """What became of the events of one chunk: positions in the list that was added, shape (k,) each."""

    kept: npt.NDArray[np.int64]  # events whose arguments are to be kept
    rows: npt.NDArray[np.int64]  # their rows in the columns
    memory: npt.NDArray[np.int64]  # allocator events, which were not added


class Columns:
    """All duration events so far.

    Args:
        expected_bytes: plain size of the file, an estimate is enough.
        clock: converts the file's times.
    """

    def __init__(self, expected_bytes: int, clock: Clock) -> None:
        self._capacity = max(1024, expected_bytes // _BYTES_PER_EVENT)
        self._arrays: dict[str, npt.NDArray[Any]] = {k: np.empty(self._capacity, t) for k, t in _TYPES.items()}
        self._clock = clock
        self._names = NameCodes()
        self._categories = CategoryCodes()
        self._tracks = TrackTable()
        self._kept_names = np.zeros(0, np.bool_)
        self._mixed = False
        self.count = 0
        self.refused = 0  # events that cannot be: a time that no clock shows, a device that no machine has

    @property
    def names(self) -> tuple[str, ...]:
        """Names by their code."""
        return tuple(str(name) for name in self._names)

    @property
    def tracks(self) -> TrackTable:
        """The threads and streams of the events."""
        return self._tracks

    def add(self, events: list[Complete]) -> Added:
        """Append events, but for those that are no durations."""
        return self.add_records(self._encode(events))

    def add_records(self, records: npt.NDArray[np.void]) -> Added:
        """The same with their records, see `schema.encode`."""
        categories = self._category_codes(records)
        names = records["name"].astype(np.int32)
        wanted = self._wanted(names, categories)
        memory = self._is_memory(names)
        keep = (categories != DROPPED) & ~memory
        start, end, possible = self._clock.spans(records["ts"].astype(np.float64), records["dur"].astype(np.float64))
        possible &= ~self._tracks.on_unknown_device(records, ON_DEVICE[categories])
        self.refused += int(np.count_nonzero(keep & ~possible))
        keep &= possible
        if not keep.all():
            records, categories, names = records[keep], categories[keep], names[keep]
            start, end = start[keep], end[keep]
        first = self._write(records, {"start": start, "end": end, "name": names, "category": categories})
        rows = first + np.cumsum(keep) - 1
        positions = np.flatnonzero(wanted & keep)
        return Added(positions, rows[positions], np.flatnonzero(memory))

    def fill(self, records: npt.NDArray[np.float64], core: Any) -> Added | None:
        """As `add_records`, by the compiled core; None if a record is unusual: then nothing was added.

        Args:
            records: as a scan found them.
            core: its `Filler`.
        """
        self._look_at_names()
        first, last = self.count, self.count + len(records)
        self._reserve(last)
        wanted, memory = self._kept_names.view(np.uint8), int(self._names.get(MEMORY, -1))
        into = tuple(array[first:last] for array in self._arrays.values())
        filled = core.fill(records, wanted, memory, self._clock.prefixes, into)
        if filled is None:
            return None
        count, refused, kept, rows, moved = filled
        self.count += count
        self.refused += refused
        return Added(kept, first + rows, moved)

    def set_args(self, rows: npt.NDArray[np.int64], codes: list[int] | npt.NDArray[np.int32]) -> None:
        """Say which kept arguments belong to these rows."""
        self._arrays["args"][rows] = codes

    def extend(self, later: Columns, args: list[int]) -> None:
        """Append the events of a later part of the file, which is then empty.

        Args:
            later: the part.
            args: what the codes of its arguments are here.
        """
        codes = {
            "name": [int(self._names[name]) for name in later.names],
            "track": [self._tracks.index(track) for track in later.tracks.tracks()],
            "args": args,
        }
        first, last = self.count, self.count + later.count
        self._reserve(last)
        for key in COLUMNS:
            part = later.take(key)
            self._arrays[key][first:last] = np.array([*codes[key], -1], part.dtype)[part] if key in codes else part
        self.count = last
        for spelled in later.spellings:
            self.category_code(spelled)

    def name_code(self, name: str) -> float:
        """Code of this name."""
        return self._names[name]

    def category_code(self, category: str) -> float:
        """Code of this spelling of a category."""
        return self._categories[category]

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling of a category that was met."""
        return tuple(str(spelled) for spelled in self._categories)

    def look(self, name: str) -> npt.NDArray[Any]:
        """One column, shape (count,)."""
        return self._arrays[name][: self.count]

    def take(self, name: str) -> npt.NDArray[Any]:
        """Hand out one column, shape (count,), and forget it."""
        return self._arrays.pop(name)[: self.count]

    def put(self, name: str, column: npt.NDArray[Any]) -> None:
        """Take back a column that was handed out; no event can be added then."""
        self._arrays[name] = column

    def _write(self, records: npt.NDArray[np.void], known: dict[str, npt.NDArray[Any]]) -> int:
        """Append these records, whose columns `known` are worked out; the row of the first."""
        first, last = self.count, self.count + len(records)
        if not len(records):
            return first
        self._reserve(last)
        into = {key: array[first:last] for key, array in self._arrays.items()}
        for key, column in known.items():
            into[key][:] = column
        into["track"][:] = self._tracks.assign(records, ON_DEVICE[known["category"]])
        into["correlation"][:] = _ids(records["correlation"], np.int64)
        external = np.where(records["external"] == -1, records["external_2021"], records["external"])
        number = np.where(known["category"] == Category.PYTHON, records["python"], external)
        into["external_id"][:] = _ids(number, np.int32)
        into["sequence"][:] = _ids(records["sequence"], np.int32)
        into["args"][:] = -1
        self.count = last
        return first

    def _reserve(self, count: int) -> None:
        if count <= self._capacity:
            return
        self._capacity = max(count, int(self._capacity * _GROWTH))
        for key, array in self._arrays.items():
            grown = np.empty(self._capacity, array.dtype)
            grown[: self.count] = array[: self.count]
            self._arrays[key] = grown

    def _encode(self, events: list[Complete]) -> npt.NDArray[np.void]:
        names, categories = self._names, self._categories
        for event in events:
            event.cat = categories[event.cat]
            event.name = names[event.name]
        records = None if self._mixed else encode(events)
        if records is None or (not self._mixed and self._tracks.misleads(records)):
            # Files that write ids as strings do so throughout: from now on they are replaced before encoding.
            self._mixed = True
            self._all_floats(events)
            records = encode(events)
        assert records is not None
        return records

    def _all_floats(self, events: list[Complete]) -> None:
        code = self._tracks.code
        for event in events:
            if event.pid.__class__ is not float or event.pid <= FIRST_TEXT:
                event.pid = code(event.pid)
            if event.tid.__class__ is not float or event.tid <= FIRST_TEXT:
                event.tid = code(event.tid)
            if event.args is None:
                event.args = _NO_ARGS
                continue
            args = event.args
            for field in ("correlation", "external", "external_2021", "python", "sequence"):
                if getattr(args, field).__class__ is not float:
                    setattr(args, field, _number(getattr(args, field)))
            for field in ("stream", "device"):
                if getattr(args, field) != ABSENT:
                    setattr(args, field, code(getattr(args, field)))

    def _category_codes(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
        """Category of each record; without one it is what the process id says (see dialects/autograd.py)."""
        categories = records["cat"].astype(np.uint8)
        for i in np.flatnonzero(categories == UNSAID).tolist():
            process = self._tracks.text(int(records["pid"][i]))
            categories[i] = CATEGORIES.get(process.lower(), Category.OTHER)
        return categories

    def _look_at_names(self) -> None:
        """Find out which of the names that are new keep their arguments."""
        known = len(self._kept_names)
        if known < len(self._names):
            new = [keeps_arguments(str(name)) for name in list(self._names)[known:]]
            self._kept_names = np.append(self._kept_names, np.array(new, np.bool_))

    def _wanted(self, names: npt.NDArray[np.int32], categories: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        self._look_at_names()
        wanted: npt.NDArray[np.bool_] = self._kept_names[names] | KEEPS[categories]
        return wanted

    def _is_memory(self, names: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Allocator events; the Python exporter of torch writes these instants as durations."""
        if MEMORY not in self._names:
            return np.zeros(len(names), np.bool_)
        found: npt.NDArray[np.bool_] = names == int(self._names[MEMORY])
        return found


_NO_ARGS = Args()


def _number(value: object) -> float:
    """An id that is written as a string or null; -1 if it is not a number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return -1.0


def _ids(values: npt.NDArray[np.floating[Any]], kind: type[np.signedinteger[Any]]) -> npt.NDArray[np.float64]:
    """Ids that fit their column and that a float64 holds; -1 (absent) for the others."""
    return np.where((values >= 0) & (values <= min(np.iinfo(kind).max, LARGEST_ID)), values, -1)
