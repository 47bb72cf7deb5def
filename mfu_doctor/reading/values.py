"""The arguments of one event as an `EventArgs`, parsed once for all events that have the same ones.

A training loop repeats its shapes every step: of a million events' arguments a few hundred differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from mfu_doctor.trace import EventArgs

T = TypeVar("T")

_DIRECTIONS = 3  # of a grid and of a block
# What is larger cannot be, and sums of what is smaller stay inside 64 bits. No program's address space has more bytes than this
# (48 bits), so no tensor has more elements; no device has the memory for more bytes (4 TiB) in one copy or one message.
_MOST_ELEMENTS = 2**48
_MOST_BYTES = 2**42
_MOST_BLOCKS = 2**62  # of a grid, in all directions
_LARGEST_ID = 2**63 - 1

_NAMES = {
    "dims": "Input Dims",
    "dims_2021": "Input dims",
    "types": "Input type",
    "concrete": "Concrete Inputs",
    "strides": "Input Strides",
    "blocks_per_sm": "blocks per SM",
    "occupancy": "est. achieved occupancy %",
    "copy_bytes": "bytes",
    "collective": "Collective name",
    "sent": "In msg nelems",
    "received": "Out msg nelems",
    "group_size": "Group size",
    "group": "Process Group Name",
    "group_description": "Process Group Description",
    "group_ranks": "Process Group Ranks",
    "sequence": "Seq",
    "source": "Src Rank",
    "target": "Dst Rank",
    "sync_kind": "cuda_sync_kind",
    "wait_stream": "wait_on_stream",
    "wait_record": "wait_on_cuda_event_record_corr_id",
    "call_stack": "Call stack",
}
_REMEMBERED = 1 << 12  # values: more different ones than a model has shapes
_EMPTY = msgspec.Raw(b"")
_DECODE = json.JSONDecoder(strict=False).decode


class RawArgs(msgspec.Struct, gc=False, frozen=True, rename=_NAMES):
    """The known arguments as bytes, so that equal ones are found without parsing them."""

    dims: msgspec.Raw = _EMPTY
    dims_2021: msgspec.Raw = _EMPTY
    types: msgspec.Raw = _EMPTY
    concrete: msgspec.Raw = _EMPTY
    strides: msgspec.Raw = _EMPTY
    grid: msgspec.Raw = _EMPTY
    block: msgspec.Raw = _EMPTY
    blocks_per_sm: msgspec.Raw = _EMPTY
    occupancy: msgspec.Raw = _EMPTY
    copy_bytes: msgspec.Raw = _EMPTY
    size: msgspec.Raw = _EMPTY
    collective: msgspec.Raw = _EMPTY
    dtype: msgspec.Raw = _EMPTY
    sent: msgspec.Raw = _EMPTY
    received: msgspec.Raw = _EMPTY
    group_size: msgspec.Raw = _EMPTY
    group: msgspec.Raw = _EMPTY
    group_description: msgspec.Raw = _EMPTY
    group_ranks: msgspec.Raw = _EMPTY
    sequence: msgspec.Raw = _EMPTY
    source: msgspec.Raw = _EMPTY
    target: msgspec.Raw = _EMPTY
    sync_kind: msgspec.Raw = _EMPTY
    wait_stream: msgspec.Raw = _EMPTY
    wait_record: msgspec.Raw = _EMPTY
    call_stack: msgspec.Raw = _EMPTY


class ArgsOnly(msgspec.Struct, gc=False):
    """An event of which only the arguments are wanted."""

    ts: float = math.nan  # unequal to every time: not an event
    dur: float = 0.0
    args: RawArgs | None = None


# Names of the known arguments, in the order of their values in a key.
KNOWN = tuple(field.encode_name.encode() for field in msgspec.structs.fields(RawArgs))
_PLACES = {field.name: place for place, field in enumerate(msgspec.structs.fields(RawArgs))}
ARGUMENTS: msgspec.json.Decoder[ArgsOnly] = msgspec.json.Decoder(ArgsOnly)


class ArgsTable:
    """Numbers the arguments as they are written; what they say is looked at once, when all have been read."""

    def __init__(self) -> None:
        self._codes: dict[tuple[bytes, ...], int] = {}

    def codes(self, events: Iterable[ArgsOnly]) -> list[int]:
        """Number of each event's arguments, -1 if it has none."""
        return [-1 if event.args is None else self._code(event.args) for event in events]

    def extend(self, later: ArgsTable) -> list[int]:
        """Number of each of the arguments that another table met in a later part of the file."""
        return [self.index(key) for key in later._codes]

    def _code(self, raw: RawArgs) -> int:
        return self.index(tuple(map(bytes, msgspec.structs.astuple(raw))))

    def index(self, key: tuple[bytes, ...]) -> int:
        """Number of these arguments."""
        return self._codes.setdefault(key, len(self._codes))

    def parsed(self) -> tuple[tuple[EventArgs, ...], list[int]]:
        """All distinct arguments, and for each number which of them it is; -1 if nothing of them is known."""
        found: dict[EventArgs, int] = {}
        nothing = EventArgs()
        which = []
        for key in self._codes:
            args = _parse(key)
            which.append(-1 if args == nothing else found.setdefault(args, len(found)))
        return tuple(found), which


def _parse(written: tuple[bytes, ...]) -> EventArgs:
    def known(name: str, convert: Callable[[Any], T]) -> T | None:
        """A known argument, or None if it is absent, null or not what its name promises (it is then unknown)."""
        data = written[_PLACES[name]]
        return _converted(data, convert) if data else None

    collective = known("collective", readable)
    return EventArgs(
        dims=known("dims", _shapes) or known("dims_2021", _shapes),
        types=known("types", _texts),
        concrete=known("concrete", _texts),
        strides=known("strides", _strides),
        grid=known("grid", _extent),
        block=known("block", _extent),
        blocks_per_sm=known("blocks_per_sm", _amount),
        occupancy=known("occupancy", _amount),
        copy_bytes=_first(known("copy_bytes", _size), known("size", _size)),
        collective=collective,
        collective_dtype=None if collective is None else known("dtype", readable),
        collective_in=known("sent", _size),
        collective_out=known("received", _size),
        group_size=known("group_size", _size),
        group=known("group", readable),
        group_description=known("group_description", readable),
        group_ranks=known("group_ranks", rank_list),
        collective_sequence=known("sequence", _size),
        source_rank=known("source", _size),
        target_rank=known("target", _size),
        sync_kind=known("sync_kind", readable),
        wait_stream=known("wait_stream", _id),
        wait_record_correlation=known("wait_record", _id),
        call_stack=known("call_stack", readable) or None,
    )


def _first(value: int | None, other: int | None) -> int | None:
    return other if value is None else value


@lru_cache(_REMEMBERED)  # few different shapes and types make up many different arguments
def _converted(data: bytes, convert: Callable[[Any], T]) -> T | None:
    if data == b"null":
        return None
    try:
        return convert(_DECODE(data.decode("utf-8", "replace")))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def readable(value: Any) -> str:
    """A value as text that can be written again: JSON can hold halves of characters (lone surrogates), and no file can."""
    return str(value).encode("utf-8", "replace").decode()


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(readable(item) for item in _list(value))


def _amount(value: Any) -> float:
    """A finite number that is not negative."""
    number = float(_number(value))
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _id(value: Any) -> int:
    """An integer of 64 bits."""
    number = int(_number(value))
    if abs(number) > _LARGEST_ID:
        raise ValueError
    return number


def _number(value: Any) -> Any:
    """What may be a number: true and false are none, although Python counts with them."""
    if isinstance(value, bool):
        raise TypeError
    return value


def _size(value: Any) -> int:
    """A number of bytes, elements or ranks."""
    number = _id(value)
    if not 0 <= number <= _MOST_BYTES:
        raise ValueError
    return number


def rank_list(value: Any) -> tuple[int, ...]:
    """Numbers of ranks: a list, or the text of one. A longer one that the writer cut ("[0, 1, ...]") is unknown."""
    return tuple(_size(rank) for rank in _list(json.loads(value) if isinstance(value, str) else value))


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(_id(size) for size in _list(value))


def _shape(value: Any) -> tuple[int, ...]:
    """The sizes of a tensor that can exist; jagged dimensions are printed as negative numbers."""
    sizes = _sizes(value)
    if abs(math.prod(size for size in sizes if size)) > _MOST_ELEMENTS:
        raise ValueError
    return sizes


def _extent(value: Any) -> tuple[int, ...]:
    """The blocks of a grid or the threads of a block, in each direction."""
    sizes = _sizes(value)
    if min(sizes, default=0) < 0 or len(sizes) > _DIRECTIONS or math.prod(sizes) > _MOST_BLOCKS:
        raise ValueError
    return sizes


def _shapes(value: Any) -> tuple[Any, ...]:
    """One entry per operator argument: a shape, or a tuple of shapes for a list of tensors."""
    return tuple(_per_argument(item, _shape) for item in _list(value))


def _strides(value: Any) -> tuple[Any, ...]:
    """The same with strides, which may be of any size."""
    return tuple(_per_argument(item, _sizes) for item in _list(value))


def _per_argument(item: Any, convert: Callable[[Any], tuple[int, ...]]) -> tuple[Any, ...]:
    """What one argument has: numbers of its own, or those of each tensor in it, never both."""
    lists = [isinstance(part, list) for part in _list(item)]
    return tuple(convert(part) for part in item) if any(lists) else convert(item)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value
