"""What Kineto writes of an operator call, for calls that cannot be recorded on the machine that runs the tests.

`test_recording.py` holds it against calls that torch's own profiler records here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mfu_doctor.trace import EventArgs

_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "c10::Half",
    torch.bfloat16: "c10::BFloat16",
    torch.complex64: "c10::complex<float>",
    torch.int8: "signed char",
    torch.int32: "int",
    torch.int64: "long int",
    torch.float8_e4m3fn: "c10::Float8_e4m3fn",
    torch.float4_e2m1fn_x2: "c10::Float4_e2m1fn_x2",
}


def event_args(schema: Any, given: Mapping[str, Any]) -> EventArgs:
    """Recorded arguments of a call: every argument of the schema in its order, defaults included.

    Args:
        schema: the operator's schema.
        given: the arguments of the call by name.
    """
    values = [given.get(a.name, a.default_value) for a in schema.arguments]
    return EventArgs(
        dims=tuple(map(_dims, values)), types=tuple(map(_type, values)), concrete=tuple(map(_printed, values))
    )


def _dims(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(tuple(v.shape) for v in value) if _is_tensors(value) else ()


def _type(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, torch.Tensor):
        return _TYPES[value.dtype]
    if isinstance(value, (list, tuple)):
        return "TensorList" if _is_tensors(value) else "ScalarList"
    return "Scalar"


def _printed(value: Any) -> str:
    if value is None or isinstance(value, (torch.Tensor, str)) or _is_tensors(value):
        return ""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:g}." if isinstance(value, float) and value.is_integer() else str(value)


def _is_tensors(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], torch.Tensor)
