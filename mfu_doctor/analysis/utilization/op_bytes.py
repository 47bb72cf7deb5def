"""The least memory traffic of an operator without matmul, from recorded shapes.

Memory-bound work (norms, activations, softmax, optimizer, copies) has a minimum time: its traffic over the bandwidth. Only the
time above it can be saved, by fusion or by a better kernel.
"""

from __future__ import annotations

from math import prod

from mfu_doctor.devices.dtypes import element_bytes
from mfu_doctor.trace import EventArgs

# Kinds whose operators read each tensor argument once and write one result of the largest argument's size.
_STREAMING = ("elementwise", "copy", "layout", "softmax", "normalization")
_ADAM_TENSOR_PASSES = 7  # read parameter, gradient and two moments; write parameter and moments


def minimal_bytes(name: str, kind: str, args: EventArgs | None) -> float | None:
    """Least memory traffic in bytes of one call, or None if its shapes are not recorded.

    Args:
        name: operator name.
        kind: its kind (`kernel_names.KINDS`).
        args: its recorded arguments.
    """
    if args is None or args.dims is None:
        return None
    if kind == "optimizer" and "_fused_adam" in name:
        size = element_bytes(args.type_of(0)) or 4.0
        return _ADAM_TENSOR_PASSES * size * sum(prod(s) for s in args.shapes(0)) or None
    if name.endswith("embedding"):
        return _embedding(args)
    reads = [(_touched_elements(args, i), element_bytes(args.type_of(i)) or 0.0) for i in range(len(args.dims))]
    read = sum(count * size for count, size in reads)
    if not read:
        return None
    if kind == "reduction":
        return read
    if kind not in _STREAMING:
        return None
    broadcast = max((prod(s) for i in range(len(args.dims)) if (s := args.shape(i))), default=0)
    return read + broadcast * max(size for _, size in reads)


def _embedding(args: EventArgs) -> float | None:
    """Rows that are looked up, read and written; not the table."""
    table, index = args.shape(0), args.shape(1)
    size = element_bytes(args.type_of(0))
    if table is None or index is None or size is None:
        return None
    return prod(index) * (element_bytes(args.type_of(1)) or 8.0) + 2 * prod(index) * table[-1] * size


def _touched_elements(args: EventArgs, index: int) -> int:
    """Elements of a tensor argument that lie apart in memory: a dimension of stride 0 is one row read again."""
    dims = args.shape(index)
    if dims is None:
        return 0
    strides = args.strides[index] if args.strides is not None and index < len(args.strides) else ()
    if len(strides) != len(dims):
        return prod(dims)
    return prod(d for d, s in zip(dims, strides, strict=True) if s != 0)
