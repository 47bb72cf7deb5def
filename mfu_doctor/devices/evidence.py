"""The vendor of the device of a trace, determined from names before any number.

A compute capability of 9.0 is an H100 on CUDA and an MI250 on ROCm, with similar unit counts. Only names distinguish them: the
device's own, the runtime's calls (hip*, cuda*) and library kernels (Tensile's Cijk_*, with the chip's ISA).
"""

from __future__ import annotations

import re

from mfu_doctor.trace import DeviceProperties, Trace

_AMD_NAME = re.compile(r"\bAMD\b|Instinct|Radeon|\bgfx\d", re.IGNORECASE)
_NVIDIA_NAME = re.compile(r"NVIDIA|Tesla|GeForce|Quadro|\bTITAN\b|\bGRID\b", re.IGNORECASE)
_HIP_CALL = re.compile(r"^hip[A-Z]|^Cijk_|rocblas|miopen", re.IGNORECASE)
_CUDA_CALL = re.compile(r"^cuda[A-Z]|^cu[A-Z][a-z]+[A-Z]")
_TENSILE_ISA = re.compile(r"_ISA(908|90a|942|950)_")

# Compute capability as ROCm reports it -> chip. 9.0 covers several; their unit counts differ (AMD CDNA whitepapers).
_CHIP = {(9, 4): "gfx942", (9, 5): "gfx950", (11, 0): "gfx1100", (12, 0): "gfx1200"}
_CHIP_90_UNITS = {104: "gfx90a", 110: "gfx90a", 120: "gfx908"}


def vendor(trace: Trace, name: str) -> str | None:
    """AMD or NVIDIA: from the device's name, else from the calls and kernels of the trace; None if neither shows it."""
    if _AMD_NAME.search(name):
        return "AMD"
    if _NVIDIA_NAME.search(name):
        return "NVIDIA"
    if any(_HIP_CALL.search(n) for n in trace.names):
        return "AMD"
    if any(_CUDA_CALL.search(n) for n in trace.names):
        return "NVIDIA"
    return None


def architecture(trace: Trace, device: DeviceProperties) -> str | None:
    """Compute capability ("9.0") of an NVIDIA device or chip ("gfx90a") of an AMD one; None if names do not say."""
    major, minor = device.compute_major, device.compute_minor
    who = vendor(trace, device.name)
    if who == "AMD":
        return _amd_chip(trace, major, minor, device.sms)
    if who == "NVIDIA" and major is not None and minor is not None:
        return f"{major}.{minor}"
    return None


def _amd_chip(trace: Trace, major: int | None, minor: int | None, units: int | None) -> str | None:
    isa = {m.group(1) for m in map(_TENSILE_ISA.search, trace.names) if m}
    if len(isa) == 1:
        return f"gfx{isa.pop()}"
    if (major, minor) == (9, 0):
        return _CHIP_90_UNITS.get(units or 0)
    return _CHIP.get((major or 0, minor or 0))
