"""The peak that MFU is measured against, and where it comes from, for the device of this process."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.analysis.utilization.mfu import no_peak
from mfu_doctor.capture.device.usage import device_in_use
from mfu_doctor.capture.facts.cpu_peak import measure_peaks
from mfu_doctor.capture.facts.processor import cpu_model
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.devices import Peaks, resolve
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.errors import DoctorError
from mfu_doctor.facts import Facts, HostFacts
from mfu_doctor.inputs.overrides import check_peak_flops
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.quantities import peak_rate
from mfu_doctor.trace import Events, Trace

# What torch calls the dtypes whose peak is measured on a CPU.
_OF_CPU = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}
_FLAG, _ARGUMENT = "--peak-flops", "peak_flops="


class DevicePeak(Struct, frozen=True, kw_only=True):
    """The denominator of MFU.

    Attributes:
        device: its name, as the driver or the system tells it.
        dtype: the one that the peak is of.
        flops: dense FLOP/s; None if it is not known.
        source: where the number comes from.
        measured: whether it was measured on this machine, and is not of a datasheet.
        reason: why it is not known.
        dense: the peaks of all its dtypes.
        warnings: what speaks against it.
    """

    device: str | None
    dtype: str | None
    flops: float | None
    source: str | None = None
    measured: bool = False
    reason: str | None = None
    dense: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.device or "this device"
        if self.flops is None:
            return f"{name}: no peak ({self.reason})"
        return f"{name}: {peak_rate(self.flops)} {self.dtype or ''}, {self.source}".replace(" ,", ",")


class Machine(Struct, frozen=True):
    """What is stated about the device of this process.

    Attributes:
        peak_flops: its dense peak in FLOP/s; None: what pyproject.toml says, else the table of devices.
        model: the model in training, which tells on what kind of device; None: a GPU, if the process uses one.
    """

    peak_flops: float | None = None
    model: weakref.ref[Any] | None = None

    @classmethod
    def of(cls, peak_flops: float | None, model: Any) -> Machine:
        """The machine of a model, which is not kept alive."""
        return cls(peak_flops, None if model is None else weakref.ref(model))

    @property
    def kind(self) -> str | None:
        """What torch calls the kind of device: "cpu", "cuda"; None if there is no model, or it has no parameter."""
        model = None if self.model is None else self.model()
        first = None if model is None else next(iter(model.parameters()), None)
        return None if first is None else first.device.type


def device_peak(dtype: str | None = None, *, peak_flops: float | None = None, model: Any = None) -> DevicePeak:
    """The peak that MFU is measured against in this process.

    On a CPU the peak is measured, which takes about a second at first.

    Args:
        dtype: as torch spells it ("bfloat16"), or short ("bf16"); None: the fastest that training uses, of a CPU float32.
        peak_flops: what you know of the device, in FLOP/s; None: what pyproject.toml says, else the table of devices.
        model: the model in training, if the process uses more than one kind of device.

    Raises:
        DoctorError: the dtype is not one that matrix units compute in; the number is none.
    """
    check_peak_flops(peak_flops, "peak_flops")
    wanted = short_dtype(None if dtype is None else str(dtype))
    if dtype is not None and wanted is None:
        raise DoctorError(f"{dtype} has no peak", "pass a dtype such as bfloat16")
    peaks = live_peaks(Machine.of(peak_flops, model), [wanted or "fp32"])
    return told(peaks, wanted or ("fp32" if peaks.kind == "cpu" else peaks.best))


def live_peaks(
    machine: Machine,
    dtypes: Iterable[str],
    trace: Trace | None = None,
    *,
    reached: Mapping[str, float] = MappingProxyType({}),
) -> Peaks:
    """All peaks of the device of this process.

    Args:
        machine: what is stated about it.
        dtypes: short names of those that it computes in; on a CPU these are measured.
        trace: a recording of this process, which can tell more; None: there is none.
        reached: FLOP/s that its matmuls reached on the CPU, by dtype: no measured peak is below that.
    """
    given = settings_here().peak_flops if machine.peak_flops is None else machine.peak_flops
    known, kind = trace or _no_trace(), machine.kind
    device = None if kind == "cpu" else device_in_use()
    if device is not None:
        return resolve(replace(known, devices=(device,)), given, is_cpu=False)
    if kind not in (None, "cpu"):
        unknown = Peaks(name=kind, reason=f"no peak is known for devices of the kind {kind}: pass {_ARGUMENT}")
        return unknown if given is None else resolve(known, given, is_cpu=False)
    wanted = ["float32", *(_OF_CPU[dtype] for dtype in dtypes if dtype in _OF_CPU)]
    with without_user_modes():
        measured = () if given is not None else measure_peaks(tuple(dict.fromkeys(wanted)))
    facts = Facts(measured_peaks=measured, host=HostFacts(cpu=cpu_model()))
    return resolve(replace(known, facts=facts), given, is_cpu=True, reached=reached)


def told(peaks: Peaks, dtype: str | None) -> DevicePeak:
    """The peak of one dtype."""
    return DevicePeak(
        device=peaks.name,
        dtype=dtype if peaks.given is None else None,
        flops=peaks.of(dtype),
        source=peaks.sources.get(dtype or "", peaks.source),
        measured=peaks.measured,
        reason=why_none(peaks, dtype),
        dense=dict(peaks.dense),
        warnings=peaks.warnings,
    )


def why_none(peaks: Peaks, dtype: str | None) -> str | None:
    """Why the peak of this dtype is not known, in the words of Python."""
    reason = no_peak(peaks, dtype)
    return None if reason is None else reason.replace(_FLAG, _ARGUMENT)


def _no_trace() -> Trace:
    times, numbers, none = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    return Trace(
        Events(times, times, numbers, np.empty(0, np.uint8), np.empty(0, np.int16), none, numbers, numbers, numbers),
        names=(),
        tracks=(),
    )
