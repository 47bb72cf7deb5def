"""Functions of the program that give the same numbers in every step, from the same arguments: once would be enough.

Masks, tables of positions, distances, a normalized adjacency matrix, products of constants: neither a parameter nor a batch is a
part of them. What a function of the user's returns is compared between steps whose times are not used, and so are the tensors
that it is given. Numbers of them are kept, and nothing else. They are read straight from memory: nothing that a profiler would
see is run. Results on another device are not compared, since their bytes would have to be waited for. Nor is anything where such
a device is in use, or memory is short: until Python 3.13, to ask what a function was given keeps it until the function returns.

A result is not compared if it has a gradient, if a module was called for it whose parameters are trained, or if it is so short,
or so uniform, that it may be equal by accident.
"""

from __future__ import annotations

import inspect
import sys
import weakref
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.device.usage import memory_peak
from mfu_doctor.capture.facts.call_result import is_uniform, memory_of
from mfu_doctor.capture.facts.host import memory_available
from mfu_doctor.capture.loop.stack_sampler import UserFiles
from mfu_doctor.facts.wasted_work import ConstantResult

_FEWEST_STEPS = 2
_FEWEST_BYTES = 256
_MOST_BYTES = 128 << 20  # that are read in a step: some hundredths of a second
_MOST_LOOKS = 3_000  # in a step: a tenth of a second, at 15 to 45 us each
_MOST_PARTS = 64  # of a result, or of what a function is given
_DEEPEST = 3  # parts of a part of a part
_PLAIN = (int, float, str, bool, type(None))
_PAUSES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_Known = list[tuple[weakref.ref[Any], int]]  # tensors with their versions
_Function = tuple[str, str]  # where it begins, "train.py:12", and its name

# What is to be done with the calls of a function: nothing, compare their results, or note that a module computes.
_NOTHING, _COMPARE, _MODULE = 0, 1, 2


class _Call(Struct, eq=False):
    """A call that runs.

    Attributes:
        frame: its address.
        given: tensors that it was given, with their versions; None: it cannot be compared.
        trained: calls of trained modules before it.
        of_trained: whether it was given such a module.
    """

    frame: int
    given: _Known | None
    trained: int
    of_trained: bool


class ConstantResults(Struct):
    """Looks at the calls of a few steps.

    Attributes:
        base: directory that places are shown relative to.
        kinds: what is to be done with a call, by the address of its code; not there: not known yet.
        tired: whether it has looked at enough of this step, or must not look at it: it is then of no use.
    """

    base: Path | None = None
    kinds: dict[int, int] = field(default_factory=dict)
    tired: bool = False
    _files: UserFiles | None = None
    _module: CodeType | None = None
    _steps: list[dict[_Function, list[int | None]]] = field(default_factory=list)
    _now: dict[_Function, list[int | None]] = field(default_factory=dict)
    _open: list[_Call] = field(default_factory=list)
    _given: list[tuple[list[int | None], int, _Known]] = field(
        default_factory=list
    )  # results, one's place, its tensors
    _modules: dict[int, bool] = field(default_factory=dict)  # whether they are trained, by address
    _trained: int = 0
    _left: int = 0
    _looks: int = 0

    def begins(self) -> None:
        """A step begins."""
        import torch

        self._files = self._files or UserFiles(self.base)
        module: Any = torch.nn.Module
        cuda: Any = torch.cuda
        self._module = getattr(getattr(module, "_wrapped_call_impl", module.__call__), "__code__", None)
        self._left, self._looks, self.tired = _MOST_BYTES, 0, cuda.is_initialized() or not _has_room()
        for former in (self.kinds, self._now, self._open, self._given, self._modules):
            former.clear()

    def ended(self, *, whole: bool) -> None:
        """It has ended; `whole`: all of its calls were seen."""
        for results, place, tensors in self._given:
            if any((one := known()) is not None and _version(one) != version for known, version in tensors):
                results[place] = None  # the step writes into it: it needs a new one each time
        if whole and not self.tired:
            self._steps.append(dict(self._now))
        self._now, self._open, self._given = {}, [], []

    def look(self, frame: FrameType, event: str, value: Any) -> None:
        """A function is called, or returns."""
        code = frame.f_code
        self._looks += 1
        self.tired = self.tired or self._looks > _MOST_LOOKS
        kind = self.kinds.get(id(code))
        if kind is None:
            kind = self.kinds[id(code)] = self._kind(code)
        if kind is _MODULE and event == "call":
            self._trained += self._is_trained(frame.f_locals.get("self"))
        elif kind is _COMPARE and event == "call":
            self._open.append(self._called(frame))
        elif kind is _COMPARE and event == "return" and self._open and self._open[-1].frame == id(frame):
            number = self._number(self._open.pop(), value)
            results = self._now.setdefault(self._name(code), [])
            results.append(number)
            if number is not None:
                tensors = [part for part in _parts(value) if not isinstance(part, _PLAIN)]
                self._given.append((results, len(results) - 1, [(weakref.ref(one), _version(one)) for one in tensors]))

    def found(self) -> tuple[ConstantResult, ...] | None:
        """The functions that gave the same in all steps, and were given the same; None if there were too few steps."""
        if len(self._steps) < _FEWEST_STEPS:
            return None
        first, *others = self._steps
        same = (
            (function, results)
            for function, results in first.items()
            if None not in results and all(step.get(function) == results for step in others)
        )
        return tuple(
            ConstantResult(place=place, function=name, calls=len(results), steps=len(self._steps))
            for (place, name), results in same
        )

    def _kind(self, code: CodeType) -> int:
        if code is self._module:
            return _MODULE
        plain = not code.co_flags & _PAUSES and code.co_name.isidentifier()
        return _COMPARE if plain and self._files is not None and self._files.shown(code.co_filename) else _NOTHING

    def _name(self, code: CodeType) -> _Function:
        shown = self._files.shown(code.co_filename) if self._files is not None else None
        return f"{shown}:{code.co_firstlineno}", code.co_name

    def _is_trained(self, module: Any) -> bool:
        known = self._modules.get(id(module))
        if known is None:
            known = self._modules[id(module)] = any(one.requires_grad for one in module.parameters())
        return known

    def _called(self, frame: FrameType) -> _Call:
        from torch import Tensor
        from torch.nn import Module, Parameter

        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + _rest(code)]
        given: _Known | None = []
        of_trained = False
        for part in _parts([values.get(name) for name in names]):
            if isinstance(part, Module):
                of_trained = of_trained or self._is_trained(part)
            elif part is _TOO_MANY or (isinstance(part, Tensor) and part.requires_grad):
                given = None
            elif isinstance(part, Tensor) and not isinstance(part, Parameter) and given is not None:
                given.append((weakref.ref(part), _version(part)))
        return _Call(id(frame), given, self._trained, of_trained)

    def _number(self, call: _Call, value: Any) -> int | None:
        """A number of a result and of what it was made of; None if it is not to be compared."""
        from torch import Tensor

        parts = list(_parts(value))
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if call.given is None or call.trained != self._trained or not tensors or any(t.requires_grad for t in tensors):
            return None
        if not all(isinstance(part, (Tensor, *_PLAIN)) for part in parts):
            return None
        if call.of_trained and not any(one.is_floating_point() for one in tensors):
            return None  # an update need not change a decision
        number = self._read(tensors)
        for known, version in call.given if number is not None else ():
            one = known()
            made_of = self._read([one]) if one is not None and _version(one) == version else None
            if number is None or made_of is None:
                return None
            number = zlib.crc32(made_of.to_bytes(4, "big"), number)
        return number

    def _read(self, tensors: list[Any]) -> int | None:
        """A number of all bytes of these tensors; None if they cannot all be read, or say little."""
        number, says = 0, False
        for one in chain.from_iterable(map(_dense_parts, tensors)):
            data = None if one is None else memory_of(one)
            if one is None or data is None or len(data) > self._left:
                return None
            self._left -= len(data)
            number = zlib.crc32(repr((tuple(one.shape), one.stride(), one.dtype)).encode(), number)
            number = zlib.crc32(data, number)
            says = says or (len(data) >= _FEWEST_BYTES and not is_uniform(data, one.element_size()))
        return number if says else None


_TOO_MANY = object()


def _parts(value: Any) -> Iterator[Any]:
    """What a value consists of, without its collections; `_TOO_MANY` if that is too much to look at."""
    left = [(value, 0)]
    seen = 0
    while left:
        one, depth = left.pop()
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list | tuple) else None
        seen += 1
        if inner is None:
            yield one
        elif depth == _DEEPEST or len(inner) + seen > _MOST_PARTS:
            yield _TOO_MANY
        else:
            left += [(part, depth + 1) for part in inner]


def _has_room() -> bool:
    """Whether the process could have as much memory again."""
    if sys.version_info >= (3, 13):
        return True
    available, used = memory_available(), memory_peak()
    return available is not None and used is not None and available > used


def _rest(code: CodeType) -> int:
    """How many of `*args` and `**kwargs` a function takes."""
    return sum(bool(code.co_flags & flag) for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS))


def _version(tensor: Any) -> int:
    return -1 if tensor.is_inference() else int(tensor._version)  # noqa: SLF001 - no public name exists


def _dense_parts(tensor: Any) -> list[Any]:
    """The tensor, or the dense ones that a sparse one consists of; None for what is none of torch's own."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return [None]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]  # noqa: SLF001 - the public names ask for a coalesced one
    if tensor.layout is torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor]
