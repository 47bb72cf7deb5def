"""The device sampler on the real driver: what each probe answers and costs, GPM against counted FLOPs.

What may hang comes last: the sampler gives a driver up that does not return, and the calls of `costs` cannot.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mfu_doctor.capture.device.current_devices import current_devices
from mfu_doctor.capture.device.nvml import attempt, load, meaning
from mfu_doctor.capture.device.probes import Probe
from mfu_doctor.capture.device.sampled_device import COLUMNS, SampledDevice
from mfu_doctor.capture.device.sampler import DeviceSampler
from mfu_doctor.capture.selfcheck import selfcheck
from mfu_doctor.devices.table import lookup
from mfu_doctor.facts import DeviceSamples
from on_gpu_parts.job import Job
from on_gpu_parts.work import place, rate, wait

TICKS = 100  # of which the cost is measured
ASKED = 30  # times that each probe is asked alone


def found(job: Job) -> Iterator[dict[str, Any]]:
    """Facts about the machine and the sampler."""
    yield machine()
    for line in selfcheck():
        yield {"fact": f"selfcheck: {line.name}", "state": line.state, "text": line.text}
    device = place(job.rehearse)
    size, seconds = (256, 1.0) if job.rehearse else (8192, 10.0)
    dtype = torch.float32 if job.rehearse else torch.bfloat16
    begin = time.perf_counter()
    a, b = torch.randn(2, size, size, dtype=dtype, device=device)
    wait(device)
    context = time.perf_counter() - begin
    a @ b
    wait(device)
    yield {"fact": "first use", "context_s": context, "first_product_s": time.perf_counter() - begin - context}
    # A rehearsal uses no GPU: it reads what NVML calls the first one, if there is one.
    sampler = DeviceSampler(targets=[0]) if job.rehearse else DeviceSampler(own=current_devices)
    sampler.start()
    reached = rate(a, b, seconds)
    samples, status = sampler.stop()
    yield {"fact": "under load", "status": status, "reason": sampler.reason, "flops_per_s": reached}
    for one in samples:
        yield read(one)
        yield against_flops(one, reached)
    yield costs()


def machine() -> dict[str, Any]:
    """What everything else depends on, before anything touches the GPU."""
    known = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "cores": len(os.sched_getaffinity(0)),
        "compiler": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
        "home_is_writable": os.access(Path("~").expanduser(), os.W_OK),
    }
    return {"fact": "machine", **known}


def costs() -> dict[str, Any]:
    """Seconds of opening the first device, of a tick, and of each probe's call alone, called back to back."""
    nvml, error = attempt(load)
    begin = time.perf_counter()
    if error is None:
        _, error = attempt(nvml.nvmlInit)
    if nvml is None or error is not None:
        return {"fact": "cost", "status": "unavailable", "reason": meaning(error) if error else None}
    seconds = {"init_s": time.perf_counter() - begin}
    device = SampledDevice(0)
    seconds["open_s"] = took(lambda: device.open(nvml), 1)[0]
    ticks = took(lambda: device.sample(time.time_ns), TICKS)
    seconds |= {"tick_s": median(ticks), "tick_longest_s": ticks[-1]}
    alone = {probe.name: alone_s(probe) for probe in device._probes}
    answers = {probe.name: probe.error or "answers" for probe in device._probes}
    mig, _ = attempt(lambda: nvml.nvmlDeviceGetMigMode(nvml.nvmlDeviceGetHandleByIndex(0)))
    device.close(nvml)
    attempt(nvml.nvmlShutdown)
    told = {"probes": answers, "probe_s": alone, "mig_mode": mig, "notes": device.notes}
    return {"fact": "cost", "status": "measured", **seconds, **told}


def alone_s(probe: Probe) -> float | None:
    """Seconds of one call of a probe; None if it was given up."""
    return median(took(lambda: probe.reads and probe.read(0), ASKED)) if probe.reads else None


def took(call: Any, times: int) -> list[float]:
    """Seconds of each of so many calls, sorted."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)


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
