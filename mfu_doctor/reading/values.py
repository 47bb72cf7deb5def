"""The arguments of one event as an `EventArgs`, parsed once for all events that have the same ones.

A training loop repeats its shapes every step: of a million events' arguments a few hundred differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from mfu_doctor.trace import EventArgs

T = TypeVar("T")

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
    "sync_kind": "cuda_sync_kind",
    "wait_stream": "wait_on_stream",
    "wait_record": "wait_on_cuda_event_record_corr_id",
}
_EMPTY = msgspec.Raw(b"")


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
    sync_kind: msgspec.Raw = _EMPTY
    wait_stream: msgspec.Raw = _EMPTY
    wait_record: msgspec.Raw = _EMPTY


class ArgsOnly(msgspec.Struct, gc=False):
    """An event of which only the arguments are wanted."""

    ts: float = math.nan  # unequal to every time: not an event
    dur: float = 0.0
    args: RawArgs | None = None


ARGUMENTS: msgspec.json.Decoder[ArgsOnly] = msgspec.json.Decoder(ArgsOnly)


class ArgsTable:
    """Interns arguments: equal ones are one `EventArgs`."""

    def __init__(self) -> None:
        self._by_bytes: dict[tuple[bytes, ...], int] = {}
        self._by_value: dict[EventArgs, int] = {}

    def codes(self, events: Iterable[ArgsOnly]) -> list[int]:
        """Index of each event's arguments in `values`, -1 if it has none that are known."""
        return [-1 if event.args is None else self._code(event.args) for event in events]

    @property
    def values(self) -> tuple[EventArgs, ...]:
        """All distinct arguments, in order of their index."""
        return tuple(self._by_value)

    @property
    def keys(self) -> tuple[tuple[bytes, ...], ...]:
        """One spelling of all distinct arguments, in order of their index."""
        spelled: dict[int, tuple[bytes, ...]] = {}
        for key, code in self._by_bytes.items():
            spelled.setdefault(code, key)
        return tuple(spelled[code] for code in range(len(self._by_value)))

    def indices(self, keys: Iterable[tuple[bytes, ...]]) -> list[int]:
        """Index of each of these arguments, which another table met in a later part of the file."""
        return [self._index(key) for key in keys]

    def _code(self, raw: RawArgs) -> int:
        return self._index(tuple(map(bytes, msgspec.structs.astuple(raw))))

    def _index(self, key: tuple[bytes, ...]) -> int:
        code = self._by_bytes.get(key)
        if code is None:
            args = _parse(RawArgs(*map(msgspec.Raw, key)))
            code = -1 if args == EventArgs() else self._by_value.setdefault(args, len(self._by_value))
            self._by_bytes[key] = code
        return code


def _parse(raw: RawArgs) -> EventArgs:
    collective = _value(raw.collective, _text)
    return EventArgs(
        dims=_value(raw.dims, _shapes) or _value(raw.dims_2021, _shapes),
        types=_value(raw.types, _texts),
        concrete=_value(raw.concrete, _texts),
        strides=_value(raw.strides, _shapes),
        grid=_value(raw.grid, _shape),
        block=_value(raw.block, _shape),
        blocks_per_sm=_value(raw.blocks_per_sm, float),
        occupancy=_value(raw.occupancy, float),
        copy_bytes=_first(_value(raw.copy_bytes, int), _value(raw.size, int)),
        collective=collective,
        collective_dtype=None if collective is None else _value(raw.dtype, _text),
        collective_in=_value(raw.sent, int),
        collective_out=_value(raw.received, int),
        group_size=_value(raw.group_size, int),
        sync_kind=_value(raw.sync_kind, _text),
        wait_stream=_value(raw.wait_stream, int),
        wait_record_correlation=_value(raw.wait_record, int),
    )


def _first(value: int | None, other: int | None) -> int | None:
    return other if value is None else value


def _value(raw: msgspec.Raw, convert: Callable[[Any], T]) -> T | None:
    """A known argument, or None if it is absent, null or not what its name promises (it is then unknown)."""
    data = bytes(raw)
    if not data or data == b"null":
        return None
    try:
        return convert(json.loads(data.decode("utf-8", "replace"), strict=False))
    except (ValueError, TypeError, OverflowError):
        return None


def _text(value: Any) -> str:
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(value))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in _list(value))


def _shapes(value: Any) -> tuple[Any, ...]:
    """One entry per operator argument: a shape, or a tuple of shapes for a list of tensors."""
    return tuple(_shapes(item) if isinstance(item, list) else int(item) for item in _list(value))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value
