"""Probes: single NVML readings that are scheduled, fall back to older names and fail each on its own.

A driver, a MIG instance or a container lacks some readings and never all of them, so one refused call must cost exactly
one column. The schedule keeps a tick at five C calls: each call takes and drops the GIL of the training process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.capture.device.nvml import Fault, Handle, Nvml, attempt, fault_of, field_values
from mfu_doctor.units import MILLI

Reading: TypeAlias = Mapping[str, float | int | None]
Read: TypeAlias = Callable[[], Reading]

# C calls in one tick at most (measured: twelve calls take 62 ms of GIL waits beside a loop of pure Python).
CALLS_PER_TICK = 5

# A reading that fails this often in a row is given up.
MAX_FAILURES = 5

# nvmlFieldValue ids (nvml.h).
FIELD_POWER_INSTANT = 186  # mW
FIELD_PCIE_TX = 197  # bytes, cumulative
FIELD_PCIE_RX = 198
FAST_FIELDS = (FIELD_POWER_INSTANT, FIELD_PCIE_TX, FIELD_PCIE_RX)
_COLUMN = {FIELD_POWER_INSTANT: "power_w", FIELD_PCIE_TX: "pcie_tx_bytes", FIELD_PCIE_RX: "pcie_rx_bytes"}

_SENSOR_GPU = 0  # NVML_TEMPERATURE_GPU
_CLOCK_SM, _CLOCK_MEMORY = 1, 2  # NVML_CLOCK_SM, NVML_CLOCK_MEM
_FACTOR = {FIELD_POWER_INSTANT: MILLI}  # NVML gives milliwatts

_SECOND_NS = 1_000_000_000
_UTILIZATION_EVERY_NS = 200_000_000  # NVML averages it over 1/6 to 1 s
_POWER_EVERY_NS = 500_000_000  # the older call averages over 1 s
_MEMORY_EVERY_NS = 500_000_000
_SLOW_EVERY_NS = 5_000_000_000  # processes and the PCIe link


class Probe(Struct):
    """One reading of one device.

    `reads` holds the preferred call first and older names of the same call after it; empty: given up. `every_ns` 0
    means every tick. `calls` is the number of C calls that a reading makes. `waits` marks a reading that is taken only under
    load: that it does not fail says nothing about the driver.
    """

    name: str
    reads: list[Read]
    every_ns: int = 0
    calls: int = 1
    waits: bool = False
    due_ns: int = 0
    failures: int = 0
    error: str | None = None

    def read(self, now_ns: int) -> tuple[Reading, Fault | None]:
        """Take the reading; a failure gives an empty one and says whether the device or the session is gone."""
        self.due_ns = now_ns + self.every_ns
        reading, error = attempt(self.reads[0])
        if error is None:
            self.failures = 0
            return reading or {}, None
        return {}, self._failed(error)

    def _failed(self, error: Exception) -> Fault | None:
        fault = fault_of(error)
        self.error = type(error).__name__
        if fault in (Fault.DEVICE, Fault.SESSION):
            return fault
        self.failures += 1
        if fault is Fault.PERMANENT:
            self.reads.pop(0)
            self.failures = self.due_ns = 0  # an older name is asked at the next tick
        elif self.failures >= MAX_FAILURES:
            self.reads.clear()
        return None


def due(probes: list[Probe], now_ns: int) -> list[Probe]:
    """The probes to read in this tick: those of every tick, then the longest overdue, within the budget of C calls."""
    alive = [probe for probe in probes if probe.reads]
    chosen = [probe for probe in alive if not probe.every_ns]
    budget = CALLS_PER_TICK - sum(probe.calls for probe in chosen)
    waiting = [probe for probe in alive if probe.every_ns and probe.due_ns <= now_ns]
    for probe in sorted(waiting, key=lambda probe: probe.due_ns):
        if probe.calls > budget:
            break
        chosen.append(probe)
        budget -= probe.calls
    return chosen


def card_probes(nvml: Nvml, card: Handle, fields: tuple[int, ...]) -> list[Probe]:
    """Readings of the whole card; `fields` are the fast fields that this device has."""
    probes = [
        Probe("SM clock", [lambda: {"sm_mhz": nvml.nvmlDeviceGetClockInfo(card, _CLOCK_SM)}]),
        Probe(
            "clock event reasons",
            [
                lambda: {"event_reasons": nvml.nvmlDeviceGetCurrentClocksEventReasons(card)},
                lambda: {"event_reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card)},
            ],
        ),
        Probe("utilisation", [lambda: _utilization(nvml, card)], _UTILIZATION_EVERY_NS),
        Probe(
            "temperature",
            [
                lambda: {"temperature_c": nvml.nvmlDeviceGetTemperatureV(card, _SENSOR_GPU)},
                lambda: {"temperature_c": nvml.nvmlDeviceGetTemperature(card, _SENSOR_GPU)},
            ],
            _SECOND_NS,
        ),
        Probe("memory clock", [lambda: {"memory_mhz": nvml.nvmlDeviceGetClockInfo(card, _CLOCK_MEMORY)}], _SECOND_NS),
    ]
    if fields:
        probes.append(Probe("power and PCIe counters", [lambda: _fields(nvml, card, fields)]))
    if FIELD_POWER_INSTANT not in fields:
        legacy: list[Read] = [lambda: {"power_w": nvml.nvmlDeviceGetPowerUsage(card) * MILLI}]
        probes.append(Probe("power", legacy, _POWER_EVERY_NS))
    return probes


def own_probes(nvml: Nvml, own: Handle) -> list[Probe]:
    """Readings of the device itself: the MIG instance if there is one, else the card."""
    return [
        Probe("memory", [lambda: {"memory_used_bytes": nvml.nvmlDeviceGetMemoryInfo(own).used}], _MEMORY_EVERY_NS),
        Probe(
            "processes",
            [
                lambda: {"processes": len(nvml.nvmlDeviceGetComputeRunningProcesses(own))},
                lambda: {"processes": len(nvml.nvmlDeviceGetComputeRunningProcesses_v2(own))},
            ],
            _SLOW_EVERY_NS,
            calls=2,
        ),
    ]


def link_probe(nvml: Nvml, card: Handle, is_busy: Callable[[], bool]) -> Probe:
    """The PCIe link, read only while the device is busy: an idle link drops to generation 1 to save power."""

    def read() -> Reading:
        if not is_busy():
            return {}
        return {
            "pcie_gen": nvml.nvmlDeviceGetCurrPcieLinkGeneration(card),
            "pcie_width": nvml.nvmlDeviceGetCurrPcieLinkWidth(card),
        }

    return Probe("PCIe link", [read], _SLOW_EVERY_NS, calls=2, waits=True)


def _utilization(nvml: Nvml, card: Handle) -> Reading:
    rates = nvml.nvmlDeviceGetUtilizationRates(card)
    return {"util_gpu": rates.gpu, "util_memory": rates.memory}


def _fields(nvml: Nvml, card: Handle, ids: tuple[int, ...]) -> Reading:
    values = field_values(nvml, card, ids)
    return {_COLUMN[field]: None if v is None else v * _FACTOR.get(field, 1) for field, v in values.items()}
