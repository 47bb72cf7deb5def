"""The same with the compiled core and in Python alone."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mfu_doctor import compiled
from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import read_trace
from mfu_doctor.reading.columns import COLUMNS

MISSING = "; ".join(sorted({why for module in compiled.MODULES if (why := compiled.why_not(module)) is not None}))
needs_core = pytest.mark.skipif(bool(MISSING), reason=f"the compiled core is not in use: {MISSING}")


def forget() -> None:
    """Look again which modules of the core are in use."""
    compiled.core.cache_clear()
    compiled.why_not.cache_clear()


@contextmanager
def in_python() -> Iterator[None]:
    """As if the package were installed without a compiler."""
    before = os.environ.get(compiled.PURE)
    os.environ[compiled.PURE] = "1"
    forget()
    try:
        yield
    finally:
        if before is None:
            del os.environ[compiled.PURE]
        else:
            os.environ[compiled.PURE] = before
        forget()


def read(data: bytes) -> dict[str, Any] | str:
    """All that the reader makes of these bytes, or why it refuses them."""
    try:
        trace = read_trace(io.BytesIO(data))
    except NotATraceError as error:
        return str(error)
    columns = {name: getattr(trace.events, name) for name in COLUMNS}
    samples = (
        ()
        if trace.memory is None
        else (trace.memory.time, trace.memory.device, trace.memory.allocated, trace.memory.reserved)
    )
    return {
        **{name: (column.dtype.str, column.tobytes()) for name, column in columns.items()},
        "memory": tuple(column.tobytes() for column in samples),
        "rest": repr(
            (
                trace.names,
                trace.tracks,
                trace.args,
                trace.problems,
                trace.devices,
                trace.origin_ns,
                trace.file_origin_ns,
            )
        ),
    }


def difference(data: bytes) -> str:
    """What the core reads otherwise than Python; "" if nothing."""
    with_core = read(data)
    with in_python():
        alone = read(data)
    if with_core == alone:
        return ""
    if isinstance(with_core, str) or isinstance(alone, str):
        return f"the core: {str(with_core)[:200]}; Python: {str(alone)[:200]}"
    return "other than in Python: " + ", ".join(name for name in alone if alone[name] != with_core[name])
