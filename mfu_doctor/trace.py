"""What a trace is: every duration event as columns, the few arguments that matter, and what is wrong with the file.

Readers build it, capture's facts travel in it, analysis only looks at it. It imports no analysis and no reader.
"""

from __future__ import annotations

import re
from enum import IntEnum
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import force_setattr

from mfu_doctor.facts import Facts


class Category(IntEnum):
    """Kind of an event; the names of Kineto's categories through the years map onto these (see `reading`)."""

    OTHER = 0
    CPU_OP = 1
    ANNOTATION = 2  # user_annotation on a host thread: ProfilerStep#, Optimizer.step#, record_function
    GPU_ANNOTATION = 3  # projection of an annotation on a stream: not busy time
    KERNEL = 4
    MEMCPY = 5
    MEMSET = 6
    RUNTIME = 7  # CUDA/HIP runtime call on a host thread
    DRIVER = 8  # CUDA driver call on a host thread
    SYNC = 9  # cuda_sync on a stream: a wait, not busy time
    PYTHON = 10  # python_function frame
    OVERHEAD = 11  # the profiler's own work


_NUMBER = re.compile(r"-?[0-9]{1,18}")  # what fits 64 bits
_PRINTED_FLAGS = {"True": True, "False": False}
_PRINTED_WORD = re.compile(r"-?[0-9]{1,18}|True|False")
_AT_ONCE = 1 << 16  # rows

DEVICE_CATEGORIES = (Category.KERNEL, Category.MEMCPY, Category.MEMSET)
CALL_CATEGORIES = (Category.RUNTIME, Category.DRIVER)


class Track(Struct, frozen=True):
    """Where an event ran: a host thread (`device` None) or a device stream.

    For a host thread `pid`/`tid` are the ids in the file. For a stream `device` is the device index and `tid` the stream.
    """

    pid: str
    tid: str
    device: int | None = None

    @property
    def is_stream(self) -> bool:
        """Whether this is a device stream."""
        return self.device is not None

    @property
    def stream(self) -> int:
        """Number of the stream; -1 if this is none, or has a name instead."""
        return int(self.tid) if self.is_stream and _NUMBER.fullmatch(self.tid) else -1


class EventArgs(Struct, frozen=True):
    """The arguments of one event that analysis reads; unknown ones are None. Interned: equal arguments are one object.

    `dims` has one entry per operator argument: a shape, a tuple of shapes (tensor list) or () for a scalar or none.
    """

    dims: tuple[tuple[int, ...] | tuple[tuple[int, ...], ...], ...] | None = None
    types: tuple[str, ...] | None = None
    concrete: tuple[str, ...] | None = None
    strides: tuple[tuple[int, ...] | tuple[tuple[int, ...], ...], ...] | None = None
    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    blocks_per_sm: float | None = None
    occupancy: float | None = None  # estimated achieved occupancy, percent
    copy_bytes: int | None = None
    collective: str | None = None
    collective_dtype: str | None = None
    collective_in: int | None = None  # elements
    collective_out: int | None = None
    group_size: int | None = None
    group: str | None = None  # name of the process group
    group_description: str | None = None  # what the program calls it: "dp", "tp", ...
    group_ranks: tuple[int, ...] | None = None  # its members; None: not said, or cut short
    collective_sequence: int | None = None  # number of the collective in its group
    source_rank: int | None = None  # of a send or receive
    target_rank: int | None = None
    sync_kind: str | None = None  # Stream Sync, Event Sync, Stream Wait Event, Context Sync
    wait_stream: int | None = None  # the stream waited on
    wait_record_correlation: int | None = None  # correlation of the cudaEventRecord call waited on
    call_stack: str | None = (
        None  # "file.py(line): function;...", innermost first: until torch 1.12, and without Python events
    )

    def shape(self, index: int) -> tuple[int, ...] | None:
        """Shape of the tensor argument at a position; None for scalars, lists of tensors and what was not recorded."""
        if self.dims is None or index >= len(self.dims):
            return None
        if not self.dims[index] or isinstance(self.dims[index][0], tuple):
            return None
        sizes = cast("tuple[int, ...]", self.dims[index])
        return sizes if min(sizes) >= 0 else None  # jagged dimensions are printed as negative numbers

    def shapes(self, index: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the list of tensors at a position, () if there is none."""
        if self.dims is None or index >= len(self.dims):
            return ()
        return tuple(shape for shape in self.dims[index] if isinstance(shape, tuple))

    @property
    def largest(self) -> tuple[int, ...]:
        """Shape of the largest tensor among the arguments; () if unknown."""
        shapes = (shape for i in range(len(self.dims or ())) if (shape := self.shape(i)) is not None)
        return max(shapes, key=prod, default=())

    def has_no_strides(self, index: int) -> bool:
        """Whether strides were recorded and this tensor, which has axes, has none: a sparse layout."""
        if self.strides is None or self.dims is None or index >= min(len(self.strides), len(self.dims)):
            return False
        return bool(self.dims[index]) and not self.strides[index]

    def type_of(self, index: int) -> str | None:
        """The type of an argument as the trace prints it."""
        return self.types[index] if self.types is not None and index < len(self.types) else None

    def printed(self, index: int) -> bool | int | tuple[int, ...] | None:
        """A boolean, an integer or a list of them that was printed ("True", "8", "[1, 1]"); None for anything else."""
        if self.concrete is None or index >= len(self.concrete):
            return None
        text = self.concrete[index]
        if text in _PRINTED_FLAGS:
            return _PRINTED_FLAGS[text]
        if _NUMBER.fullmatch(text):
            return int(text)
        if not (text.startswith("[") and text.endswith("]")):
            return None
        words = text[1:-1].replace(" ", "").split(",")
        known = [_PRINTED_FLAGS[w] if w in _PRINTED_FLAGS else int(w) for w in words if _PRINTED_WORD.fullmatch(w)]
        return tuple(known) if len(known) == len(words) else None


class Events(Struct, frozen=True):
    """Columns of all duration events, each of shape (n,), in an order that does not depend on that of the file.

    They are sorted by start, longer ones first, then by what they say.
    `start` and `end` are nanoseconds since `Trace.origin_ns`; `name` indexes `Trace.names`, `track` indexes `Trace.tracks`,
    `args` indexes `Trace.args` (-1: none kept); `correlation`, `external_id` and `sequence` are -1 if absent. `correlation` has
    32 bits where that holds all of them. A column of equal values may take the memory of one, so none is written to.
    """

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    name: npt.NDArray[np.int32]
    category: npt.NDArray[np.uint8]
    track: npt.NDArray[np.int16]
    correlation: npt.NDArray[np.signedinteger[Any]]
    external_id: npt.NDArray[np.int32]
    sequence: npt.NDArray[np.int32]
    args: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start)

    def lasting(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Nanoseconds that each of these events took."""
        return self.end[rows] - self.start[rows]


class DeviceProperties(Struct, frozen=True):
    """One entry of `deviceProperties`: what the trace says about an accelerator."""

    index: int
    name: str
    compute_major: int | None = None
    compute_minor: int | None = None
    sms: int | None = None
    memory_bytes: int | None = None


class ProcessGroup(Struct, frozen=True):
    """One entry of `pg_config`: ranks that communicate with each other."""

    name: str
    description: str | None = None
    backend: str | None = None
    size: int | None = None
    ranks: tuple[int, ...] | None = None  # None: not said, or cut short


class Distributed(Struct, frozen=True):
    """`distributedInfo`: this rank's place in the job, and its process groups."""

    rank: int | None = None
    world_size: int | None = None
    backend: str | None = None
    groups: tuple[ProcessGroup, ...] = ()


class Recorded(Struct, frozen=True):
    """What the recording profiler was asked to record; None if the file does not say."""

    shapes: bool | None = None
    stacks: bool | None = None
    memory: bool | None = None
    modules: bool | None = None


class MemorySamples(Struct, frozen=True):
    """Allocator totals over time from `[memory]` events of one device type; arrays of shape (n,)."""

    time: npt.NDArray[np.int64]  # ns since the origin
    device: npt.NDArray[np.int16]  # -1: host memory
    allocated: npt.NDArray[np.int64]  # bytes
    reserved: npt.NDArray[np.int64]  # bytes


class Problem(Struct, frozen=True):
    """Something wrong with the file that a reader of the report must know.

    `kind` is stable and machine-readable: truncated, events-dropped, events-repaired, invalid-text, no-footer, no-base-time,
    bad-facts, clamped-times.
    """

    kind: str
    text: str
    count: int = 0


class Trace(Struct, frozen=True):
    """A recorded run. Everything that analysis knows about it."""

    events: Events
    names: tuple[str, ...]
    tracks: tuple[Track, ...]
    args: tuple[EventArgs, ...] = ()
    devices: tuple[DeviceProperties, ...] = ()
    distributed: Distributed = field(default_factory=Distributed)
    recorded: Recorded = field(default_factory=Recorded)
    memory: MemorySamples | None = None
    facts: Facts | None = None
    problems: tuple[Problem, ...] = ()
    origin_ns: int = 0  # time of event time 0, unix nanoseconds; 0 if the file lost its base
    file_origin_ns: int = 0  # time of event time 0 on the file's own clock (its times are microseconds of that clock)
    label: str = ""  # file name to show
    host: str | None = None  # name of the machine
    versions: tuple[tuple[str, str], ...] = ()  # ("cuda_runtime", "12.4"), ("hip_runtime", ...)
    is_of_2021: bool = False  # spelled as torch 1.8 to 1.11 did: newer versions do so no longer
    _rows: dict[tuple[Category, ...], npt.NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        force_setattr(self, "_rows", {})  # of these events: a copy of a trace may have others

    def rows(self, *categories: Category) -> npt.NDArray[np.int64]:
        """Row numbers of the events of these categories, in time order, shape (k,); not to be written to: all get the same."""
        if categories not in self._rows:
            wanted = np.zeros(len(self.events), np.bool_)
            for category in categories:
                wanted |= self.events.category == category
            found = np.flatnonzero(wanted)
            found.flags.writeable = False
            self._rows[categories] = found
        return self._rows[categories]

    def frames(self, names: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Row numbers of the Python frames that have one of these names, in time order, shape (k,).

        Frames are nine tenths of a trace with stacks: all their rows, which `rows` would keep, take more memory than any column.
        """
        return np.flatnonzero(self.named(names) & (self.events.category == Category.PYTHON))

    def named(self, names: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each event has one of these names, shape (number of events,)."""
        wanted = np.zeros(len(self.names), np.bool_)
        wanted[names] = True
        found = np.zeros(len(self.events), np.bool_)
        for at in range(0, len(found) if len(names) else 0, _AT_ONCE):
            found[at : at + _AT_ONCE] = wanted[self.events.name[at : at + _AT_ONCE]]
        return found

    def name_of(self, row: int) -> str:
        """Name of one event."""
        return self.names[int(self.events.name[row])]

    def args_of(self, row: int) -> EventArgs | None:
        """Kept arguments of one event, or None."""
        index = int(self.events.args[row])
        return self.args[index] if index >= 0 else None

    def name_ids(self, wanted: set[str] | frozenset[str]) -> npt.NDArray[np.int64]:
        """Ids of the names in `wanted` that occur in this trace."""
        return np.array([i for i, name in enumerate(self.names) if name in wanted], np.int64)
