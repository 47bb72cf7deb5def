"""Why a step that mostly computes can have a low MFU: which part of that is matmuls, and how long they would take at peak."""

from __future__ import annotations

from mfu_doctor.quantities import duration
from mfu_doctor.result.bottleneck import BUCKET_OF
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import OTHER_KERNELS

_MATMULS = ("achieved", "recompute", "matmul")  # groups of the waterfall


def of_computing(report: Report) -> str:
    """Matmuls, what they would take at peak, and the rest; empty where computing limits nothing, or MFU is not known."""
    if BUCKET_OF.get(report.bound or "") != "compute" or report.mfu.value is None:
        return ""
    at_peak, matmuls, others = (
        sum(bar.seconds for bar in report.waterfall if bar.group in groups)
        for groups in (("achieved",), _MATMULS, (OTHER_KERNELS,))
    )
    if not at_peak or not others:
        return ""
    rest = "operators" if report.device.kind == "cpu" else "kernels"
    return f"compute: matmuls {duration(matmuls)} ({duration(at_peak)} at peak), other {rest} {duration(others)}"
