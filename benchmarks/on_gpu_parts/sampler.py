"""The device sampler on the real driver: what each probe answers, what a tick costs, GPM against counted FLOPs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from mfu_doctor.capture.device.current_devices import current_devices
from mfu_doctor.capture.device.nvml import attempt, load, meaning
from mfu_doctor.capture.device.sampled_device import COLUMNS, SampledDevice
from mfu_doctor.capture.device.sampler import DeviceSampler
from mfu_doctor.devices.table import lookup
from mfu_doctor.facts import DeviceSamples
from on_gpu_parts.work import place, rate

TICKS = 100  # of which the cost is measured


def found(rehearse: bool) -> Iterator[dict[str, Any]]:
    """Facts about the sampler."""
    device = place(rehearse)
    yield ticks()
    size, seconds = (256, 1.0) if rehearse else (8192, 10.0)
    dtype = torch.float32 if rehearse else torch.bfloat16
    a, b = torch.randn(2, size, size, dtype=dtype, device=device)
    sampler = DeviceSampler(own=current_devices)
    sampler.start()
    reached = rate(a, b, seconds)
    samples, status = sampler.stop()
    yield {"fact": "under load", "status": status, "reason": sampler.reason, "flops_per_s": reached}
    for one in samples:
        yield read(one)
        yield against_flops(one, reached)


def ticks() -> dict[str, Any]:
    """Seconds of opening the first device and of each of many ticks, called back to back."""
    nvml, error = attempt(load)
    if error is None:
        _, error = attempt(nvml.nvmlInit)
    if nvml is None or error is not None:
        return {"fact": "cost", "status": "unavailable", "reason": meaning(error) if error else None}
    device = SampledDevice(0)
    begin = time.perf_counter()
    device.open(nvml)
    opened = time.perf_counter() - begin
    costs = []
    for _ in range(TICKS):
        begin = time.perf_counter()
        device.sample(time.time_ns)
        costs.append(time.perf_counter() - begin)
    device.close(nvml)
    probes = {probe.name: probe.error or "answers" for probe in device._probes}
    attempt(nvml.nvmlShutdown)
    costs.sort()
    seconds = {"open_s": opened, "tick_s": median(costs), "tick_longest_s": costs[-1]}
    return {"fact": "cost", "status": "measured", **seconds, "probes": probes, "notes": device.notes}


def read(one: DeviceSamples) -> dict[str, Any]:
    """The median of every column, None where nothing was read."""
    values = {name: [v for v in getattr(one, name) if v is not None] for name in COLUMNS}
    middle = {name: median(known) if known else None for name, known in values.items()}
    once = {name: getattr(one, name) for name in ("name", "driver", "status", "processes", "pcie_gen", "pcie_width")}
    reasons = sorted({int(bits) for bits in values["event_reasons"]})
    rows = {"rows": len(one.time_ns), "event_reasons_seen": reasons, "throttle_s": one.throttle_s, "notes": one.notes}
    return {"fact": "read under load", "device": one.device, **once, **rows, "medians": middle}


def against_flops(one: DeviceSamples, reached: float) -> dict[str, Any]:
    """Tensor-core activity beside the share of the peak that the counted FLOPs are."""
    row = lookup(one.name) if one.name else None
    peak = row.dense.get("bf16") if row else None
    active = [v for v in one.tensor_active if v is not None]
    counted = reached / peak if peak else None
    return {"fact": "GPM", "tensor_active_percent": median(active) if active else None, "share_of_peak": counted}
