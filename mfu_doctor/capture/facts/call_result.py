"""What a call of a module gave, as a number: two calls are told apart without keeping what they gave.

On the CPU it is of the output's bytes, read straight from memory: nothing that a profiler would see is run. Bytes of another
device would have to be waited for: there it is of the graph that made the output, back to what the module was given. Weights that
stand in for others, or that were computed by a step inside of the step, make another graph.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from mfu_doctor.capture.facts.saved_tensors import is_held

_BLOCKS, _BLOCK = 64, 1024  # that are read of a large output, evenly spaced, and bytes of each
_WHOLE = 4 << 20  # bytes of an output that are all read: some milliseconds, in the step that is recorded with shapes
_MOST_NODES = 4096  # of a graph


class CallResult(Struct, frozen=True):
    """A number of what was given, by its bytes or by its graph; None: it could not be looked at."""

    values: int | None = None
    graph: int | None = None
    is_whole: bool = False  # whether all of the bytes were read

    def differs_from(self, other: CallResult) -> bool | None:
        """Whether two calls are known to have given something else; None: nothing tells."""
        for mine, its in ((self.values, other.values), (self.graph, other.graph)):
            if mine is not None and its is not None:
                return mine != its
        return None


def result_of(output: Any, given: tuple[Any, ...]) -> CallResult:
    """What a module gave for these tensors."""
    import torch

    tensors = list(_tensors_in(output))
    if not tensors or not all(type(one) in (torch.Tensor, torch.nn.Parameter) for one in tensors):
        return CallResult()
    values = _values(tensors)
    if values is None:
        return CallResult(graph=_graph(tensors, given))
    return CallResult(values, is_whole=all(one.numel() * one.element_size() <= _WHOLE for one in tensors))


def is_uniform(data: memoryview, size: int) -> bool:
    """Whether all numbers, of so many bytes each, are one and the same."""
    return len(data) <= size or bytes(data[size:]) == bytes(data[:-size])


def memory_of(tensor: Any) -> memoryview | None:
    """The memory from the first number of a tensor to its last one; None if it is not on the CPU, or has none of its own."""
    import torch

    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return None
    if not tensor.numel():
        return memoryview(b"")
    try:
        address = tensor.data_ptr() if is_held(tensor) else 0
    except RuntimeError:  # no memory of its own: a tensor of torch.func
        return None
    if not address:
        return None
    numbers = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    size = numbers * tensor.element_size()
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def whole_values(output: Any) -> int | None:
    """A number of all bytes of an output on the CPU; None if they cannot all be read, or say little.

    Where all numbers of each tensor are one and the same, results are equal by accident.
    """
    import torch

    tensors = list(_tensors_in(output))
    if not all(type(one) is torch.Tensor and one.numel() * one.element_size() <= _WHOLE for one in tensors):
        return None
    read = [(_bytes_of(one), one.element_size()) for one in tensors]
    if all(data is None or is_uniform(data, size) for data, size in read):
        return None
    return _values(tensors)


def _tensors_in(output: Any) -> Iterator[Any]:
    """All tensors of an output; something else for whatever is neither a tensor nor a collection of them."""
    parts = output.values() if isinstance(output, dict) else output
    if isinstance(output, dict | list | tuple):
        for part in parts:
            yield from _tensors_in(part)
    elif output is not None:
        yield output


def _values(tensors: list[Any]) -> int | None:
    number = 0
    for one in tensors:
        data = _bytes_of(one)
        if data is None:
            return None
        number = zlib.crc32(repr((tuple(one.shape), one.dtype)).encode(), number)
        for block in _blocks(data):
            number = zlib.crc32(block, number)
    return number


def _bytes_of(tensor: Any) -> memoryview | None:
    import torch

    is_dense = tensor.layout is torch.strided and tensor.is_contiguous()
    return memory_of(tensor) if is_dense else None


def _blocks(data: memoryview) -> Iterator[memoryview]:
    if len(data) <= _WHOLE:
        yield data
        return
    for i in range(_BLOCKS):
        at = (len(data) - _BLOCK) * i // (_BLOCKS - 1)
        yield data[at : at + _BLOCK]


def _graph(tensors: list[Any], given: tuple[Any, ...]) -> int | None:
    """A number of the nodes that made these tensors, in the order of a walk, and of the tensors that they are made of."""
    nodes = [one.grad_fn for one in tensors if one.grad_fn is not None]
    ends = [one.grad_fn for one in given if one.grad_fn is not None]
    if not nodes:
        return None
    place = {id(one): -1 - i for i, one in enumerate(ends)}  # the nodes are referred to while their numbers are used
    number = 0
    for node in nodes:  # grows meanwhile
        leaf = getattr(node, "variable", None)
        known = [place.get(id(child)) for child, _ in node.next_functions if child is not None]
        number = zlib.crc32(repr((node.name(), known, id(leaf) if leaf is not None else 0)).encode(), number)
        for child, _ in node.next_functions:
            if child is not None and id(child) not in place:
                place[id(child)] = len(nodes)
                nodes.append(child)
        if len(nodes) > _MOST_NODES:
            return None
    return number
