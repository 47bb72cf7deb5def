"""Tensor-core, SM and memory activity from NVML's GPU performance monitoring (GPM), on Hopper and newer.

No other measure of tensor-core activity works without a profiler and without privileges. It is an independent check of HFU: FLOPs
that a formula misses still keep the tensor cores busy. A reading is the difference of two samples.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from mfu_doctor.capture.device.nvml import Handle, Nvml, attempt

# nvml.h, NVML_GPM_METRIC_*: percent of the time between two samples.
_METRICS = {
    "sm_active": 2,  # SM_UTIL: percent of SMs busy
    "tensor_active": 5,  # ANY_TENSOR_UTIL: percent of time that the tensor pipes were active
    "dram_active": 10,  # DRAM_BW_UTIL: percent of peak memory bandwidth
}

# NVML_GPM_METRICS_GET_VERSION of nvml.h.
_VERSION = 1

# Two samples must be more than 100 ms apart (NVML's GPM documentation: internal refresh); nearer ones read as zero.
MIN_INTERVAL_NS = 200_000_000

# One nvmlGpmSampleGet and one nvmlGpmMetricsGet.
CALLS = 2


class Gpm:
    """Two sample buffers of one device, used in turn.

    Args:
        nvml: the NVML module.
        card: handle of the whole card.
        instance: GPU instance id if only a MIG instance is meant, else None.

    Raises:
        Exception: whatever NVML raises when it cannot allocate the buffers.
    """

    def __init__(self, nvml: Nvml, card: Handle, instance: int | None = None) -> None:
        self._nvml, self._card, self._instance = nvml, card, instance
        self._buffers = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
        self._primed = False
        self._request = nvml.c_nvmlGpmMetricsGet_t()
        self._request.version, self._request.numMetrics = _VERSION, len(_METRICS)
        for index, metric in enumerate(_METRICS.values()):
            self._request.metrics[index].metricId = metric

    def read(self) -> dict[str, float | None]:
        """Activity in percent since the last reading; the first reading only takes the sample to compare with."""
        before, now = self._buffers
        if self._instance is None:
            self._nvml.nvmlGpmSampleGet(self._card, now)
        else:
            self._nvml.nvmlGpmMigSampleGet(self._card, self._instance, now)
        self._buffers.reverse()
        if not self._primed:
            self._primed = True
            return {}
        self._request.sample1, self._request.sample2 = before, now
        self._nvml.nvmlGpmMetricsGet(self._request)
        return {name: _valid(self._request.metrics[index]) for index, name in enumerate(_METRICS)}

    def free(self) -> None:
        """Give the buffers back; failures do not matter, the process keeps a few kilobytes at most."""
        for buffer in self._buffers:
            attempt(partial(self._nvml.nvmlGpmSampleFree, buffer))
        self._buffers = []


def open_gpm(nvml: Nvml, card: Handle, instance: int | None) -> tuple[Gpm | None, str | None]:
    """The device's monitor, or None and the reason in words."""
    support, _ = attempt(lambda: nvml.nvmlGpmQueryDeviceSupport(card))
    if support is None or not support.isSupportedDevice:
        return None, "tensor-core activity is not available on this GPU or driver (Hopper and newer GPUs have it)"
    gpm, error = attempt(lambda: Gpm(nvml, card, instance))
    return gpm, None if error is None else f"tensor-core activity was not readable: {type(error).__name__}"


def _valid(metric: Any) -> float | None:
    value = float(metric.value) if metric.nvmlReturn == 0 else math.nan
    return None if math.isnan(value) else value
