"""Where a rank ran, and what may differ between ranks and explain a difference: versions, settings, threads, the device."""

from __future__ import annotations

import re

from mfu_doctor.analysis.run import Run
from mfu_doctor.result.report import Report
from mfu_doctor.trace import Trace

# torch.profiler.tensorboard_trace_handler and mfu-doctor name a file HOST_PID.[rankN.]TIME.pt.trace.json
_HOST_PID = re.compile(r"^(?P<host>.+)_(?P<pid>[0-9]{1,9})\.(rank[0-9]+\.)?[0-9]{10,}\.pt\.trace\.json")
_LEAST_PID = 1024  # if the number of ranks is unknown: less may be the rank of "worker_3"


def host_of(trace: Trace, world_size: int | None) -> str | None:
    """The machine of a rank: as recorded, else as its file is named; None if neither tells."""
    if trace.host is not None:
        return trace.host
    named = _HOST_PID.match(trace.label)
    return named["host"] if named and int(named["pid"]) >= (world_size or _LEAST_PID) else None


def options_of(run: Run, report: Report) -> dict[str, str]:
    """Settings of a rank as text, by their names."""
    found: dict[str, object] = {**report.run.versions, **report.run.settings}
    found["device"] = report.device.name
    found["backend"] = run.trace.distributed.backend
    host = run.facts.host if run.facts is not None else None
    if host is not None:
        found |= {
            "processor": host.cpu,
            "usable cores": host.usable_cores,
            "torch threads": host.torch_threads,
            "interop threads": host.interop_threads,
        }
    return {name: str(value) for name, value in found.items() if value is not None}
