"""mfu-doctor: why a PyTorch training run does not use its hardware fully, and what to do about it.

The public names are imported on first use, so that `import mfu_doctor` costs almost nothing and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mfu_doctor.version import __version__

if TYPE_CHECKING:
    from mfu_doctor.api.diagnose import diagnose, diagnose_job
    from mfu_doctor.api.job import JobReport
    from mfu_doctor.api.report import Report
    from mfu_doctor.capture.flops.counter import count_flops
    from mfu_doctor.capture.flops.formula_lookup import flop_formula
    from mfu_doctor.capture.flops.report import FlopReport
    from mfu_doctor.errors import DoctorError
    from mfu_doctor.meter.meter import Meter
    from mfu_doctor.meter.peak import DevicePeak, device_peak
    from mfu_doctor.meter.reading import MeterReading
    from mfu_doctor.result.findings import Diagnosis
    from mfu_doctor.result.verdict import Verdict
    from mfu_doctor.rules.contract import Finding
    from mfu_doctor.session.profile import profile
    from mfu_doctor.session.recorder import Recorder

_HOMES = {
    "DevicePeak": "mfu_doctor.meter.peak",
    "Meter": "mfu_doctor.meter.meter",
    "MeterReading": "mfu_doctor.meter.reading",
    "device_peak": "mfu_doctor.meter.peak",
    "Diagnosis": "mfu_doctor.result.findings",
    "DoctorError": "mfu_doctor.errors",
    "Finding": "mfu_doctor.rules.contract",
    "JobReport": "mfu_doctor.api.job",
    "FlopReport": "mfu_doctor.capture.flops.report",
    "Recorder": "mfu_doctor.session.recorder",
    "Report": "mfu_doctor.api.report",
    "Verdict": "mfu_doctor.result.verdict",
    "count_flops": "mfu_doctor.capture.flops.counter",
    "diagnose": "mfu_doctor.api.diagnose",
    "diagnose_job": "mfu_doctor.api.diagnose",
    "flop_formula": "mfu_doctor.capture.flops.formula_lookup",
    "profile": "mfu_doctor.session.profile",
}

__all__ = [
    "DevicePeak",
    "Diagnosis",
    "DoctorError",
    "Finding",
    "FlopReport",
    "JobReport",
    "Meter",
    "MeterReading",
    "Recorder",
    "Report",
    "Verdict",
    "__version__",
    "count_flops",
    "device_peak",
    "diagnose",
    "diagnose_job",
    "flop_formula",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mfu_doctor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
