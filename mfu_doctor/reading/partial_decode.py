"""Decodes a few events of a chunk again, in a type that has more fields than the first pass needed.

Only a few percent of the events have arguments that are needed. Their text is cut out of the chunk by position, which costs one
split of the chunk instead of a second parse.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.reading.schema import FAILURES, LIST, Complete


class _Timed(Protocol):
    ts: float
    dur: float


E = TypeVar("E", bound=_Timed)


class SecondLook(Struct, frozen=True):
    """A chunk in which some events are to be decoded again.

    Attributes:
        chunk: a JSON list of events.
        complete: its duration events, as first decoded.
        places: of each complete event, its position among all events of the chunk.
        parts: the events without their braces; empty if the separator cannot separate them.
    """

    chunk: bytes
    complete: list[Complete]
    places: npt.NDArray[np.int64]
    parts: list[bytes]

    @classmethod
    def at(
        cls, chunk: bytes, separator: bytes, *, complete: list[Complete], places: npt.NDArray[np.int64], count: int
    ) -> SecondLook:
        """The second look at a chunk of `count` events, of which those at `places` were decoded into `complete`."""
        parts = chunk[chunk.index(b'"') + 1 : chunk.rindex(b"}")].split(separator)
        return cls(chunk, complete, places, parts if len(parts) == count else [])

    def decode(self, positions: npt.NDArray[np.int64], decoder: msgspec.json.Decoder[E]) -> list[E]:
        """The complete events at these positions, decoded in another type."""
        places = self.places[positions].tolist()
        if self.parts:
            try:  # without commas between them, so that pieces of one event do not grow together again
                found = decoder.decode_lines(b'{"' + b'}\n{"'.join([self.parts[i] for i in places]) + b"}")
            except FAILURES:
                found = []
            # Separators of several kinds could add up to the right number of wrong parts: their times tell.
            expected = [self.complete[i] for i in positions.tolist()]
            if [(e.ts, e.dur) for e in found] == [(e.ts, e.dur) for e in expected]:
                return found
        everything = LIST.decode(self.chunk)
        return [decoded(everything[i], decoder) for i in places]


def decoded(event: msgspec.Raw | bytes, decoder: msgspec.json.Decoder[E]) -> E:
    """One event in the decoder's type; without its arguments if they are not what their names promise."""
    try:
        return decoder.decode(event)
    except FAILURES:
        return decoder.decode(b"{}")
