"""Gradients that a step asks for again: passes of `torch.autograd.grad(..., create_graph=True)` that give the same numbers.

An equation is often written as functions of functions, each of which takes its derivatives anew. That two passes compute the same
is seen from what they give, read straight from memory: nothing that a profiler would see is run. Passes on another device are
not compared, since their bytes would have to be waited for.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.facts.call_result import whole_values
from mfu_doctor.facts.wasted_work import RepeatedGradient

_MOST = 1024  # passes that are looked at: none before it is found again later than that

Span = tuple[int, int]


class RepeatedGradients(Struct):
    """Watches the passes of one step; what a pass gives is forgotten with the graph."""

    _known: dict[int, list[Span]] = field(default_factory=dict)  # by what they gave
    _again: list[list[Span]] = field(default_factory=list)
    _begun_ns: int | None = None
    _left: int = _MOST

    @property
    def waits(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._begun_ns is not None

    def begins(self) -> None:
        """A pass begins that leaves the graph and makes one of its own."""
        self._begun_ns = time.time_ns() if self._left > 0 else None

    def ended(self, gradients: Any) -> None:
        """It has given these."""
        begun, end_ns = self._begun_ns, time.time_ns()
        self._begun_ns = None
        if begun is None:
            return
        self._left -= 1
        values = whole_values(gradients)
        if values is None:
            return
        spans = self._known.setdefault(values, [])
        spans.append((begun, end_ns))
        if len(spans) == 2:
            self._again.append(spans)

    def forget(self) -> None:
        """What comes now is no repetition: the graph is gone, or parameters may have changed."""
        self._known.clear()
        self._begun_ns = None

    def found(self) -> tuple[RepeatedGradient, ...]:
        """The passes that gave what another one gave."""
        return tuple(RepeatedGradient(spans=tuple(spans)) for spans in self._again)
