"""A report and the readings of a meter in TensorBoard, through the user's own writer: nothing is imported here.

In the folder of a recording (`profile("runs/first")`) the report stands beside the trace, and the profiler plugin reads both:

    with SummaryWriter("runs/first") as writer:
        add_report(writer, doctor.report)
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.meter.reading import MeterReading
from mfu_doctor.render import render
from mfu_doctor.result.report import Report

_PREFIX = "mfu_doctor"  # as the names of a report's metrics begin


def add_report(writer: Any, report: Report, step: int | None = None) -> None:
    """Add a report: the whole of it as text, and its numbers as a scalar each; what is not known is left out.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or what has its `add_text` and `add_scalar`.
        report: of one recording.
        step: the training step that it belongs to.
    """
    writer.add_text(f"{_PREFIX}/report", render(report, "markdown"), step)
    for name, value in report.metrics().items():
        writer.add_scalar(name, value, step)


def add_reading(writer: Any, reading: MeterReading) -> None:
    """Add the numbers of a reading as "mfu_doctor/meter/...", at its step; what is not known is left out.

    Args:
        writer: as for `add_report`.
        reading: what `Meter.step()` returned.
    """
    for name, value in reading.scalars.items():
        writer.add_scalar(f"{_PREFIX}/meter/{name}", value, reading.step)
