"""Inputs of a model that end in padding: how much of an axis every sample of the batch leaves unused.

What the model reads first is looked at: the indices of an embedding, and the data that a convolution or a recurrent layer gets.
Along an axis in which samples may be of any length, the last values of a sample are its padding as far back as they are equal;
tokens may be padded at their beginning instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfu_doctor.capture.facts.operator_results import Operator
from mfu_doctor.facts.wasted_work import PaddedInput

_MOST_ELEMENTS = 1 << 23  # of an input that is looked at: a few milliseconds, in a step whose time is not used
_MOST_INPUTS = 64
_SHORTEST = 8  # an axis of fewer places is none of time
_FEWEST = 2  # samples of a batch, values of a sample

# Which argument is the data, and which of its axes may be of any length: those of time or space.
_READERS: dict[str, tuple[int, slice]] = {
    "aten::embedding": (1, slice(1, None)),
    "aten::convolution": (0, slice(2, None)),
}


@dataclass(slots=True)
class PaddedInputs:
    """Looks at inputs until there are enough."""

    _found: dict[tuple[tuple[int, ...], int], PaddedInput] = field(default_factory=dict)
    _left: int = _MOST_INPUTS

    def read(self, operator: Operator, given: Sequence[Any], place: Callable[[], str | None]) -> None:
        """An operator of forward read these tensors."""
        reader = _READERS.get(operator.name)
        if reader is None or len(given) <= reader[0] or self._left <= 0:
            return
        data, axes = given[reader[0]], reader[1]
        if data.requires_grad or data.shape[:1].numel() < _FEWEST or data.numel() > _MOST_ELEMENTS:
            return
        self._left -= 1
        for axis in range(*axes.indices(data.dim())):
            if data.shape[axis] >= _SHORTEST:
                self._look(data, axis, place)

    def _look(self, data: Any, axis: int, place: Callable[[], str | None]) -> None:
        ends = ((data, axis), (data.flip(axis), axis)) if not data.is_floating_point() else ((data, axis),)
        unused = max((_padding(one, at) for one, at in ends), key=lambda shares: shares[1])
        if unused[0] * data.shape[axis] > data.shape[axis] - _FEWEST:
            return  # every sample is of one value: a kind of token, a mask
        key = tuple(data.shape), axis
        least = min(unused[0], self._found[key].least) if key in self._found else unused[0]
        self._found[key] = PaddedInput(
            dims=key[0], axis=axis, least=least, mean=unused[1], whole=not data.is_floating_point(), place=place()
        )

    def told(self) -> tuple[PaddedInput, ...]:
        """The inputs that were looked at."""
        return tuple(self._found.values())


def _padding(data: Any, axis: int) -> tuple[float, float]:
    """Share of an axis that the sample with the least padding leaves unused, and that samples leave in the mean."""
    others = [at for at in range(1, data.dim()) if at != axis]
    same = data == data.narrow(axis, -1, 1)
    flat = same.all(others) if others else same  # (sample, place)
    run = flat.flip(1).long().cumprod(1).sum(1)
    unused = (run - 1).clamp(min=0).double() / flat.shape[1]
    return float(unused.min()), float(unused.mean())
