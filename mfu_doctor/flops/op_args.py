"""Reading an operator's recorded arguments: shapes, types and printed scalars, any of which a trace may lack."""

from __future__ import annotations

import re
from math import prod

from mfu_doctor.devices.dtypes import dtype_bytes, is_complex, short_dtype
from mfu_doctor.trace import EventArgs

_INTEGER = re.compile(r"-?\d+")


def shape(args: EventArgs, index: int) -> tuple[int, ...] | None:
    """Shape of the tensor argument at a position; None for scalars, lists of tensors and what was not recorded."""
    if args.dims is None or index >= len(args.dims):
        return None
    dims = args.dims[index]
    if not dims or isinstance(dims[0], tuple):
        return None
    sizes = tuple(d for d in dims if isinstance(d, int))
    return sizes if min(sizes) >= 0 else None  # jagged dimensions are printed as negative numbers


def shapes(args: EventArgs, index: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of the list of tensors at a position, () where there is none."""
    if args.dims is None or index >= len(args.dims):
        return ()
    return tuple(d for d in args.dims[index] if isinstance(d, tuple))


def integers(args: EventArgs, index: int) -> tuple[int, ...] | None:
    """Integers of a printed argument such as "[1, 1]" or "8"; None where it was not recorded."""
    text = _concrete(args, index)
    return tuple(int(n) for n in _INTEGER.findall(text)) or None if text else None


def flag(args: EventArgs, index: int) -> bool | None:
    """A printed boolean; None where it was not recorded."""
    return {"True": True, "False": False}.get(_concrete(args, index) or "")


def flags(args: EventArgs, index: int) -> tuple[bool, ...] | None:
    """A printed list of booleans such as "[True, True, False]"; None where it was not recorded."""
    text = _concrete(args, index)
    return tuple(word == "True" for word in re.findall(r"True|False", text)) if text else None


def operand_type(args: EventArgs, index: int) -> str | None:
    """The type of an argument as the trace prints it."""
    return args.types[index] if args.types is not None and index < len(args.types) else None


def element_bytes(args: EventArgs, index: int) -> float | None:
    """Bytes of one element of the tensor argument at a position, or None."""
    name = operand_type(args, index)
    size = dtype_bytes(short_dtype(name))
    if size is None:
        return {"long int": 8, "int": 4, "bool": 1, "short int": 2}.get(name or "")
    return 2 * size if is_complex(name) else size


def touched_elements(args: EventArgs, index: int) -> int:
    """Elements of a tensor argument that lie apart in memory: a dimension of stride 0 is one row read again."""
    dims = shape(args, index)
    if dims is None:
        return 0
    strides = args.strides[index] if args.strides is not None and index < len(args.strides) else ()
    if len(strides) != len(dims):
        return prod(dims)
    return prod(d for d, s in zip(dims, strides, strict=True) if s != 0)


def _concrete(args: EventArgs, index: int) -> str | None:
    if args.concrete is None or index >= len(args.concrete):
        return None
    return args.concrete[index] or None
