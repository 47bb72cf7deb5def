"""Reading traces: bytes in, `mfu_doctor.trace.Trace` out.

    trace = read_trace("trace.json.gz")
    traces = find_traces("runs/exp1")  # a directory in TensorBoard's layout

Names are imported on first use: looking for files needs neither numpy nor the parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfu_doctor.reading.layout import TraceFile, TraceSet, find_traces
    from mfu_doctor.reading.reader import read_trace

_HOMES = {"TraceFile": "layout", "TraceSet": "layout", "find_traces": "layout", "read_trace": "reader"}

__all__ = ["TraceFile", "TraceSet", "find_traces", "read_trace"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"mfu_doctor.reading.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mfu_doctor.reading' has no attribute {name!r}")
