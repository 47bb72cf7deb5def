"""Inputs of a model that end in padding: how much of an axis every sample of the batch leaves unused.

What the model reads first is looked at: the indices of an embedding, and the data that a convolution gets. The calls are seen in
the step that is recorded with shapes, and only referred to; their values are read when the profiler has stopped. Along an axis in
which samples may be of any length, the last values of a sample are its padding as far back as they are equal; tokens may be
padded at their beginning instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.loop.stack_sampler import place_here
from mfu_doctor.facts.wasted_work import PaddedInput

_MOST_ELEMENTS = 1 << 23  # of an input that is looked at: a few milliseconds, between steps whose time is not used
_MOST_INPUTS = 64
_SHORTEST = 8  # an axis of fewer places is none of time
_FEWEST = 2  # samples of a batch, values of a sample
_TOKENS, _PLACES = slice(1, None), slice(2, None)  # axes that may be of any length: those of time or space


class _Read(Struct, frozen=True):
    """Data that a module was called with."""

    data: Any
    version: int
    axes: slice
    place: str | None


class PaddedInputs(Struct):
    """Notes what modules read, until there is enough; looks at it when told to.

    Attributes:
        base: directory that places are shown relative to.
        told: the inputs that were looked at; None: none was.
    """

    base: Path | None
    told: tuple[PaddedInput, ...] | None = None
    _read: list[_Read] = field(default_factory=list)
    _found: dict[tuple[tuple[int, ...], int], PaddedInput] = field(default_factory=dict)

    def called(self, module: Any, args: tuple[Any, ...]) -> None:
        """A module is called with these arguments: nothing is computed here."""
        axes = _axes(module)
        if axes is None or not args or len(self._read) >= _MOST_INPUTS or not _is_data(args[0]):
            return
        self._read.append(_Read(args[0], args[0]._version, axes, place_here(self.base)))  # noqa: SLF001 - no public name exists

    def look(self) -> None:
        """The step is over: look at what was read, and let go of it."""
        import torch

        read, self._read = self._read, []
        with torch.no_grad():
            for one in read:
                if one.data._version == one.version:  # noqa: SLF001 - no public name exists
                    self._look(one)
        self.told = tuple(self._found.values())

    def forget(self) -> None:
        """Let go of what was read: the recording is over."""
        self._read.clear()

    def _look(self, read: _Read) -> None:
        data = read.data
        for axis in range(*read.axes.indices(data.dim())):
            if data.shape[axis] < _SHORTEST:
                continue
            ends = (data, data.flip(axis)) if not data.is_floating_point() else (data,)
            least, mean = max((_padding(one, axis) for one in ends), key=lambda shares: shares[1])
            if least * data.shape[axis] > data.shape[axis] - _FEWEST:
                continue  # every sample is of one value: a kind of token, a mask
            key = tuple(data.shape), axis
            least = min(least, self._found[key].least) if key in self._found else least
            whole = not data.is_floating_point()
            self._found[key] = PaddedInput(
                dims=key[0], axis=axis, least=least, mean=mean, whole=whole, place=read.place
            )


def _axes(module: Any) -> slice | None:
    """Axes of what such a module reads that may be of any length; None for any other module."""
    from torch import nn

    if isinstance(module, nn.Embedding):
        return _TOKENS
    return _PLACES if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else None


def _is_data(tensor: Any) -> bool:
    """Whether it is numbers in memory of a batch of samples, which nothing before it has computed."""
    import torch

    # A subclass may be spread over ranks: to read it would be a collective that the others do not take part in.
    if type(tensor) is not torch.Tensor or not torch.is_grad_enabled():
        return False
    is_other = tensor.is_nested or tensor.is_quantized or tensor.is_meta or tensor.layout is not torch.strided
    if is_other or tensor.requires_grad or tensor.is_inference():
        return False
    return tensor.dim() > 1 and tensor.shape[0] >= _FEWEST and tensor.numel() <= _MOST_ELEMENTS


def _padding(data: Any, axis: int) -> tuple[float, float]:
    """Share of an axis that the sample with the least padding leaves unused, and that samples leave in the mean."""
    others = [at for at in range(1, data.dim()) if at != axis]
    same = data == data.narrow(axis, -1, 1)
    flat = same.all(others) if others else same  # (sample, place)
    run = flat.flip(1).long().cumprod(1).sum(1)
    unused = (run - 1).clamp(min=0).double() / flat.shape[1]
    return float(unused.min()), float(unused.mean())
