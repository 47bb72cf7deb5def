"""A stand-in for the module pynvml: real structs and real exceptions, scripted values and failures.

Importing the real pynvml needs no driver, so the fake raises the very classes that a driver would. Failures are
scripted by function name: `errors` fail every call, `at` fails the n-th (from 1), `hang` blocks a call until `release`
is set.
"""

# ruff: noqa: N802, N815 - the names are NVML's

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pynvml as real

from tests.patience import LONGEST_S

GIB = 1 << 30
FIELD_POWER, FIELD_TX, FIELD_RX = 186, 197, 198
THROTTLE_POWER, THROTTLE_THERMAL = 74, 75
UNSIGNED_LONG_LONG = 3
NOT_SUPPORTED = 3


class FakeNvml:
    """Identical H100s unless told otherwise. `gpm` maps metric id to percent; None: a GPU without GPM."""

    c_nvmlGpmMetricsGet_t = real.c_nvmlGpmMetricsGet_t

    def __init__(self, gpus: int = 1, *, gpm: dict[int, float] | None = None, mig: bool = False) -> None:
        self.gpus, self.gpm, self.mig = gpus, gpm, mig
        self.errors: dict[str, type[Exception]] = {}
        self.at: dict[tuple[str, int], type[Exception]] = {}
        self.missing: set[str] = set()
        self.hang: set[str] = set()
        self.release = threading.Event()
        self.hanging = threading.Event()
        self.calls: Counter[str] = Counter()
        self.log: list[str] = []
        self.buffers: list[Any] = []
        self.taken = 0  # GPM samples so far
        self.filled: dict[int, int] = {}  # address of a buffer -> which sample is in it
        self.compared: list[tuple[int | None, int | None]] = []  # the two samples of each reading
        self.names = ["NVIDIA H100 80GB HBM3"] * gpus
        self.utilization = 97
        self.processes = 1
        self.pcie = (5, 16)
        self.power_limit, self.default_power_limit = 700_000, 700_000
        self.fields = {FIELD_POWER: 650_000, FIELD_TX: 1_000, FIELD_RX: 2_000, THROTTLE_POWER: 0, THROTTLE_THERMAL: 0}
        self.advance: dict[int, int] = {}

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("nvml", "c_nvml")):
            if name in object.__getattribute__(self, "missing"):
                raise AttributeError(f"module 'pynvml' has no attribute '{name}'")
            if name.startswith("nvml"):
                return lambda *args: object.__getattribute__(self, "_called")(name, args)
        return object.__getattribute__(self, name)

    def _called(self, name: str, args: tuple[Any, ...]) -> Any:
        self.calls[name] += 1
        self.log.append(name)
        if name in self.hang:
            self.hanging.set()
            self.release.wait(LONGEST_S)
        error = self.errors.get(name) or self.at.get((name, self.calls[name]))
        if error is not None:
            raise error()
        return object.__getattribute__(self, name)(*args)

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, int]:
        if index >= self.gpus:
            raise real.NVMLError_InvalidArgument
        return ("GPU", index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> tuple[str, int]:
        kind, number = uuid.split("-", 1)
        if kind != ("MIG" if self.mig else "GPU"):
            raise real.NVMLError_NotFound
        return (kind, int(number))

    def nvmlDeviceGetUUID(self, handle: tuple[str, int]) -> str:
        return f"{handle[0]}-{handle[1]}"

    def nvmlDeviceGetName(self, handle: tuple[str, int]) -> bytes:
        return self.names[handle[1]].encode()  # old bindings return bytes

    def nvmlDeviceIsMigDeviceHandle(self, handle: tuple[str, int]) -> Any:
        return SimpleNamespace(value=int(handle[0] == "MIG"))

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: tuple[str, int]) -> tuple[str, int]:
        return ("GPU", handle[1])

    def nvmlDeviceGetGpuInstanceId(self, handle: tuple[str, int]) -> int:
        return 4

    def nvmlDeviceGetMigMode(self, handle: tuple[str, int]) -> list[int]:
        return [int(self.mig), int(self.mig)]

    def nvmlDeviceGetUtilizationRates(self, handle: tuple[str, int]) -> Any:
        rates = real.c_nvmlUtilization_t()
        rates.gpu, rates.memory = self.utilization, 40
        return rates

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[str, int]) -> Any:
        info = real.c_nvmlMemory_t()
        info.total, info.used = (10 if handle[0] == "MIG" else 80) * GIB, 8 * GIB
        return info

    def nvmlDeviceGetClockInfo(self, handle: tuple[str, int], kind: int) -> int:
        assert handle[0] == "GPU"
        return {real.NVML_CLOCK_SM: 1755, real.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetMaxClockInfo(self, handle: tuple[str, int], kind: int) -> int:
        return 1980

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: tuple[str, int]) -> int:
        return 0x4

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: tuple[str, int]) -> int:
        return 0x20

    def nvmlDeviceGetTemperatureV(self, handle: tuple[str, int], sensor: int) -> int:
        return 61

    def nvmlDeviceGetTemperature(self, handle: tuple[str, int], sensor: int) -> int:
        return 62

    def nvmlDeviceGetPowerUsage(self, handle: tuple[str, int]) -> int:
        return 640_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: tuple[str, int]) -> int:
        return self.power_limit

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: tuple[str, int]) -> int:
        return self.default_power_limit

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: tuple[str, int]) -> int:
        return self.pcie[0]

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: tuple[str, int]) -> int:
        return self.pcie[1]

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: tuple[str, int]) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: tuple[str, int]) -> int:
        return 16

    def nvmlDeviceGetComputeRunningProcesses(self, handle: tuple[str, int]) -> list[Any]:
        return [SimpleNamespace(pid=100 + i, usedGpuMemory=None) for i in range(self.processes)]

    def nvmlDeviceGetFieldValues(self, handle: tuple[str, int], ids: list[int]) -> Any:
        values = (real.c_nvmlFieldValue_t * len(ids))()
        for value, field in zip(values, ids, strict=True):
            value.fieldId, value.valueType = field, UNSIGNED_LONG_LONG
            if field not in self.fields:
                value.nvmlReturn = NOT_SUPPORTED
                continue
            value.nvmlReturn, value.value.ullVal = 0, self.fields[field]
            self.fields[field] += self.advance.get(field, 0)
        return values

    def nvmlGpmQueryDeviceSupport(self, handle: tuple[str, int]) -> Any:
        support = real.c_nvmlGpmSupport_t()
        support.isSupportedDevice = int(self.gpm is not None)
        return support

    def nvmlGpmSampleAlloc(self) -> Any:
        self.buffers.append(ctypes.pointer(real.struct_c_nvmlGpmSample_t()))
        return self.buffers[-1]

    def nvmlGpmSampleFree(self, buffer: Any) -> None:
        self.buffers.remove(buffer)

    def nvmlGpmSampleGet(self, handle: tuple[str, int], buffer: Any) -> None:
        assert handle[0] == "GPU"
        self._fill(buffer)

    def nvmlGpmMigSampleGet(self, handle: tuple[str, int], instance: int, buffer: Any) -> None:
        assert (handle[0], instance) == ("GPU", 4)
        self._fill(buffer)

    def _fill(self, buffer: Any) -> None:
        self.taken += 1
        self.filled[ctypes.addressof(buffer.contents)] = self.taken

    def nvmlGpmMetricsGet(self, request: Any) -> None:
        assert request.version == real.NVML_GPM_METRICS_GET_VERSION
        first, second = (self.filled.get(ctypes.addressof(s.contents)) for s in (request.sample1, request.sample2))
        self.compared.append((first, second))
        for metric in request.metrics[: request.numMetrics]:
            known = self.gpm is not None and metric.metricId in self.gpm
            metric.nvmlReturn = 0 if known else NOT_SUPPORTED
            metric.value = (self.gpm or {}).get(metric.metricId, 0.0)


class Pace:
    """Time for a sampler that must not wait: sleeping advances the clock, and after `ticks` sleeps it says stop."""

    def __init__(self, ticks: int, *, read_cost_ns: int = 1_000) -> None:
        self.now = 1_790_000_000_000_000_000
        self.left = ticks
        self.read_cost_ns = read_cost_ns
        self.sleeps: list[float] = []

    def clock(self) -> int:
        """Unix nanoseconds; each look costs `read_cost_ns`, so that a tick takes twice that."""
        self.now += self.read_cost_ns
        return self.now

    def sleep(self, seconds: float) -> bool:
        """Let time pass at once; True when the script is over."""
        self.sleeps.append(seconds)
        self.now += round(seconds * 1e9)
        self.left -= 1
        return self.left <= 0
