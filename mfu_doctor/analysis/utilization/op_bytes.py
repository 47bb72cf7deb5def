"""The least an operator that does not multiply must move through memory, from recorded shapes.

Memory-bound work (norms, activations, softmax, optimizer, copies) has a floor too: its traffic over the bandwidth. What a
kernel takes above that is the part that fusing or a better kernel could give back.
"""

from __future__ import annotations

from math import prod

from mfu_doctor.flops.op_args import element_bytes, shape, shapes, touched_elements
from mfu_doctor.trace import EventArgs

# Kinds whose operators read each tensor argument once and write one result of the largest argument's size.
_STREAMING = ("elementwise", "copy", "layout", "softmax", "normalization")
_ADAM_TENSOR_PASSES = 7  # read parameter, gradient and two moments; write parameter and moments


def minimal_bytes(name: str, kind: str, args: EventArgs | None) -> float | None:
    """Least memory traffic in bytes of one call, or None where its shapes are not recorded.

    Args:
        name: operator name.
        kind: its kind (`kernel_names.KINDS`).
        args: its recorded arguments.
    """
    if args is None or args.dims is None:
        return None
    if kind == "optimizer" and "_fused_adam" in name:
        size = element_bytes(args, 0) or 4.0
        return _ADAM_TENSOR_PASSES * size * sum(prod(s) for s in shapes(args, 0)) or None
    if name.endswith("embedding"):
        return _embedding(args)
    reads = [(touched_elements(args, i), element_bytes(args, i) or 0.0) for i in range(len(args.dims))]
    read = sum(count * size for count, size in reads)
    if not read:
        return None
    if kind == "reduction":
        return read
    if kind not in _STREAMING:
        return None
    broadcast = max((prod(s) for i in range(len(args.dims)) if (s := shape(args, i))), default=0)
    return read + broadcast * max(size for _, size in reads)


def _embedding(args: EventArgs) -> float | None:
    """Rows that are looked up, read and written; not the table."""
    table, index = shape(args, 0), shape(args, 1)
    size = element_bytes(args, 0)
    if table is None or index is None or size is None:
        return None
    return prod(index) * (element_bytes(args, 1) or 8.0) + 2 * prod(index) * table[-1] * size
