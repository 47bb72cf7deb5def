"""The peaks of the device of a trace: those of the user, of the table, derived, measured, or none.

In this order, and never those of another device: other tools took an unknown accelerator for an A100 and printed 104 % and 563 %
MFU. Every correction (fewer SMs than in the table, a derived clock) is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from msgspec.structs import replace

from mfu_doctor.devices.dtypes import DTYPES, short_dtype
from mfu_doctor.devices.evidence import architecture
from mfu_doctor.devices.peaks import GIVEN, SIXTEEN_BITS, TRAINING_DTYPES, Peaks
from mfu_doctor.devices.table import DeviceRow, lookup, matrix_unit, rate_key, rates, typical
from mfu_doctor.quantities import flops_rate, peak_rate
from mfu_doctor.trace import DEVICE_CATEGORIES, DeviceProperties, Trace
from mfu_doctor.units import GIGA

_MIG = re.compile(r" MIG \S+$")
SLICE = (
    0.1  # with a number of SMs so far from the table, it is a part of the device; its memory bandwidth is not published
)
_RDNA = ("RDNA3", "RDNA4")
_UNITS = {"NVIDIA": "SMs", "AMD": "compute units", "Intel": "execution units", "Apple": "GPU cores"}
SPARSE = 2.0  # datasheets print peaks with structured sparsity, twice the dense ones
# A CPU with arithmetic for a 16-bit dtype is at least as fast in it as in fp32, and one without it was measured at 1/120.
# Half of the speed of fp32 is far from both, so that a busy machine does not change the result.
EMULATED = 0.5
NEAR = 0.02  # datasheet values are rounded by up to this much
ASK = "pass --peak-flops with the device's dense FLOP/s for the dtype in use"


def resolve(
    trace: Trace, peak_flops: float | None, *, is_cpu: bool, reached: Mapping[str, float] = MappingProxyType({})
) -> Peaks:
    """Dense peaks of the device that the trace's work ran on.

    Args:
        trace: the trace; its metadata can contain a peak that the user passed to `profile()`, and measured CPU peaks.
        peak_flops: the user's dense FLOP/s for the dtype in use; wins over everything else.
        is_cpu: whether operators on the host are the device.
        reached: FLOP/s that matmuls of the run itself reached on the CPU, by dtype: no measured peak is below that.
    """
    facts = trace.facts
    if peak_flops is None and facts is not None and facts.given is not None:
        peak_flops = facts.given.peak_flops
    peaks = _cpu(trace, reached) if is_cpu else _accelerator(trace)
    return peaks if peak_flops is None else _override(peaks, peak_flops)


def _override(peaks: Peaks, given: float) -> Peaks:
    """The user's value in place of the peak that MFU uses; the other dtypes keep the peaks of the table."""
    warnings = list(peaks.warnings)
    best = peaks.of(peaks.best)
    if best is not None and not peaks.measured and abs(given / best - SPARSE) < SPARSE * NEAR:
        warnings.append(
            f"the given peak {peak_rate(given)} is 2x the dense value {peak_rate(best)} of {peaks.name};"
            " if it is the peak with structured sparsity, pass the dense value"
        )
    return replace(
        peaks,
        dense=_with_reference(peaks, given),
        source=GIVEN,
        sources={},
        confidence="given",
        reason=None,
        measured=False,
        given=given,
        warnings=tuple(warnings),
    )


def _with_reference(peaks: Peaks, given: float) -> dict[str, float]:
    """Peaks with the user's value as the best one."""
    if peaks.kind == "cpu":
        return dict.fromkeys((d for d in DTYPES if d not in peaks.emulated), given)
    return peaks_with(peaks.dense, peaks.of(peaks.best), given)


def peaks_with(dense: Mapping[str, float], best: float | None, given: float) -> dict[str, float]:
    """The peaks of an accelerator in FLOP/s with a given best one: 16-bit dtypes get it, wider ones are limited to it.

    Args:
        dense: peak by dtype.
        best: the best of them so far; None if none is known.
        given: what the user states.
    """
    if best is None:
        return {**dense, "bf16": given, "fp16": given}
    capped = {d: min(peak, given) if d in TRAINING_DTYPES else peak for d, peak in dense.items()}
    return capped | {d: given for d, peak in dense.items() if d in TRAINING_DTYPES and peak == best}


def _cpu(trace: Trace, reached: Mapping[str, float]) -> Peaks:
    facts = trace.facts
    name = facts.host.cpu if facts is not None and facts.host is not None else None
    measured = facts.measured_peaks if facts is not None else ()
    kept = {short: p.flops for p in measured if (short := short_dtype(p.dtype)) is not None}
    if not kept:
        reason = f"no peak is known for this CPU: record with mfu_doctor.profile(), which measures it, or {ASK}"
        return Peaks(name=name, kind="cpu", reason=reason)
    how = {short: p.how.removeprefix("measured: ") for p in measured if (short := short_dtype(p.dtype)) is not None}
    emulated = _emulated(kept, reached)
    dense, warnings = _at_least({d: peak for d, peak in kept.items() if d not in emulated}, reached)
    bandwidth = max((p.bandwidth_bytes_s for p in measured if p.bandwidth_bytes_s), default=None)
    return Peaks(
        name=name,
        kind="cpu",
        dense=dense,
        bandwidth=bandwidth,
        source=next(iter(how.values())),
        sources=how,
        confidence="measured",
        measured=True,
        emulated=emulated,
        warnings=warnings,
    )


def _emulated(measured: dict[str, float], reached: Mapping[str, float]) -> frozenset[str]:
    """16-bit dtypes that are far slower here than fp32: this CPU has no arithmetic for them, so no peak either."""
    fp32 = measured.get("fp32", 0.0)
    return frozenset(
        d for d in SIXTEEN_BITS if d in measured and max(measured[d], reached.get(d, 0.0)) < EMULATED * fp32
    )


def _at_least(measured: dict[str, float], reached: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Measured peaks, raised to what matmuls of the run reached, and a warning for each that was raised."""
    low = {d: peak for d, peak in measured.items() if reached.get(d, 0.0) > peak * (1 + NEAR)}
    warnings = tuple(
        f"the measured {d} peak ({flops_rate(peak)}) is too low, because a matmul of this run reached"
        f" {flops_rate(reached[d])}; this value is used as the peak, and MFU can still be too high"
        for d, peak in low.items()
    )
    return {d: max(peak, reached[d]) if d in low else peak for d, peak in measured.items()}, warnings


def _accelerator(trace: Trace) -> Peaks:
    device = _device_in_use(trace)
    if device is None:
        return Peaks(reason=f"the trace does not show on which accelerator it ran: {ASK}")
    name = device.name.strip()
    is_slice = bool(_MIG.search(name))
    row = lookup(_MIG.sub("", name))
    peaks = _from_row(row, device, is_slice=is_slice) if row is not None else _derived(trace, device)
    return _accumulating_in_fp16(peaks, trace)


def _device_in_use(trace: Trace) -> DeviceProperties | None:
    """The accelerator with most device time; if that one is not listed, the only kind that is."""
    rows = trace.rows(*DEVICE_CATEGORIES)
    index = np.array([-1 if t.device is None else t.device for t in trace.tracks], np.int64)
    if len(rows):
        on = index[trace.events.track[rows]]
        known = on >= 0
        spent = trace.events.lasting(rows)
        busiest = int(np.bincount(on[known], weights=spent[known]).argmax()) if known.any() else -1
        found = next((d for d in trace.devices if d.index == busiest), None)
        if found is not None:
            return found
    kinds = {(d.name, d.compute_major, d.compute_minor, d.sms): d for d in trace.devices}
    return next(iter(kinds.values())) if len(kinds) == 1 else None


def _from_row(row: DeviceRow, device: DeviceProperties, *, is_slice: bool) -> Peaks:
    name, sms = device.name.strip(), _units_of(row, device.sms)
    peaks = Peaks(
        name=name,
        dense=dict(row.dense),
        bandwidth=row.bandwidth,
        sms=sms or row.sms,
        matrix=matrix_unit(row.rate_key),
        boost_hz=row.boost_hz,
        source=row.citation,
        confidence=row.confidence,
    )
    if row.confidence == "unverified":
        peaks = replace(peaks, warnings=(f"the peak of {name} is not confirmed by its vendor ({row.source})",))
    if is_slice and (sms is None or row.sms is None):
        reason = f"{name} is a part of a GPU, and the trace does not contain its number of SMs: {ASK}"
        return Peaks(name=name, reason=reason)
    if sms is None or row.sms is None or sms == row.sms:
        return peaks
    return _scaled(peaks, row, sms, sms / row.sms)


def _units_of(row: DeviceRow, counted: int | None) -> int | None:
    """The device's units as the table counts them: on RDNA, HIP reports work-group processors, each of two compute units."""
    known = row.sms
    if counted is None or known is None or row.arch not in _RDNA:
        return counted
    return min(counted, 2 * counted, key=lambda units: abs(units - known))


def _scaled(peaks: Peaks, row: DeviceRow, sms: int, ratio: float) -> Peaks:
    """The row's peaks for another number of SMs."""
    cut = abs(ratio - 1) > SLICE
    if not cut and not row.sms_certain:
        return peaks  # the published peak is of this card; only the number of SMs in the table is uncertain
    units = _UNITS.get(row.vendor, "units")
    note = f"this {peaks.name} has {sms} {units}, the device table says {row.sms}: its peaks are scaled by {ratio:.3f}"
    return replace(
        peaks,
        dense={d: peak * ratio for d, peak in peaks.dense.items()},
        bandwidth=None if cut else peaks.bandwidth,
        confidence="scaled",
        warnings=(*peaks.warnings, note),
    )


def _derived(trace: Trace, device: DeviceProperties) -> Peaks:
    """Peaks from units x typical clock x rate of the architecture, flagged; or none, with the reason."""
    shown = device.name.strip() or "The unnamed accelerator"
    arch = architecture(trace, device)
    key = rate_key(arch, device.name) if arch else ""
    like = typical(key) if key else None
    if like is None or not device.sms:
        return Peaks(name=device.name.strip() or None, sms=device.sms, reason=f'no peak for "{shown}": {ASK}')
    clock, rows = like
    sms, units = device.sms, _UNITS["AMD" if str(arch).startswith("gfx") else "NVIDIA"]
    if rows[0].arch in _RDNA:
        sms *= 2  # see _units_of
    same = {r.bandwidth for r in rows if r.sms == sms}
    return Peaks(
        name=device.name.strip() or None,
        dense={d: sms * clock * rate for d, rate in rates()[key].items()},
        bandwidth=same.pop() if len(same) == 1 else None,
        sms=sms,
        matrix=matrix_unit(key),
        boost_hz=clock,
        source=f"derived: {sms} {units} x {clock / GIGA:.2f} GHz (typical boost) x rate of {arch}",
        confidence="derived",
        warnings=(f"{shown} is not in the device table: its peak is estimated from {arch} and {sms} {units}",),
    )


def _accumulating_in_fp16(peaks: Peaks, trace: Trace) -> Peaks:
    """On GeForce, fp16 runs at twice the rate if the run allows fp16 accumulation (a switch of torch)."""
    precision = trace.facts.precision if trace.facts is not None else None
    half_rate = bool(peaks.name) and "GeForce" in str(peaks.name)
    if not half_rate or precision is None or not precision.fp16_accumulation or "fp16" not in peaks.dense:
        return peaks
    note = "fp16 accumulation is enabled in this run, so the fp16 peak is twice the peak with fp32 accumulation"
    dense = peaks.dense | {"fp16": 2 * peaks.dense["fp16"]}
    return replace(peaks, dense=dense, warnings=(*peaks.warnings, note))
