"""The arguments of a live call as a `Call`, so that the same formulas count a live step and a recorded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mfu_doctor.flops.call import Argument, Call, Operand
from mfu_doctor.flops.operators import Operator

if TYPE_CHECKING:
    import torch


def live_call(func: Any, row: Operator, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Call:
    """A call with its arguments under their names in the operator's schema.

    Args:
        func: the overload that is called, or a higher-order operator, which has no schema.
        row: its row of the table.
        args: positional arguments.
        kwargs: keyword arguments.
        out: the result.
    """
    schema = getattr(func, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else row.signatures[0]
    given = dict(zip(names, args, strict=False)) | kwargs
    arguments = {name: _argument(value, read=name in row.contents) for name, value in given.items()}
    if row.asks_for_input and _in_backward():
        arguments["input"] = replace(_operand(given["input"], read=False), needed=given["input"].requires_grad)
    shape = getattr(out, "shape", None)
    return Call(arguments, None if shape is None else tuple(shape))


def _in_backward() -> bool:
    """Whether autograd runs a node: what the node has saved tells then whether its gradient is asked for."""
    import torch

    current = getattr(torch._C, "_current_graph_task_id", None)  # noqa: SLF001 - nothing public tells
    return current is not None and current() != -1


def _argument(value: Any, *, read: bool) -> Argument:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _operand(value, read=read)
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, (bool, int)) for v in value):
            return tuple(value)
        return tuple(_operand(v, read=False) for v in value if hasattr(v, "dtype"))
    return None


def _operand(tensor: torch.Tensor, *, read: bool) -> Operand:
    """Contents cost a wait for the device, in a step that is not timed."""
    values = tuple(tensor.tolist()) if read and not tensor.is_meta and tensor.dim() == 1 else None
    return Operand(tuple(tensor.shape), str(tensor.dtype), values, sparse="sparse" in str(tensor.layout))
