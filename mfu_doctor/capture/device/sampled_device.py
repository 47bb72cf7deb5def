"""One device being sampled: its handles, what it is, its probes, and the rows read so far.

Kept apart from the thread that drives it, so that everything about one card (MIG instances, counters at both ends, what
could not be read) is in one place and turns into one `DeviceSamples`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.device.gpm import CALLS as GPM_CALLS
from mfu_doctor.capture.device.gpm import MIN_INTERVAL_NS, Gpm, open_gpm
from mfu_doctor.capture.device.nvml import Fault, Handle, Nvml, attempt, field_values, meaning, text
from mfu_doctor.capture.device.probes import (
    FAST_FIELDS,
    FIELD_POWER_INSTANT,
    Probe,
    card_probes,
    due,
    link_probe,
    own_probes,
)
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.units import MILLI, NS_PER_S

COLUMNS = (
    "util_gpu",
    "util_memory",
    "sm_mhz",
    "memory_mhz",
    "power_w",
    "temperature_c",
    "memory_used_bytes",
    "event_reasons",
    "sm_active",
    "tensor_active",
    "dram_active",
    "pcie_rx_bytes",
    "pcie_tx_bytes",
)

# Nanoseconds held back by each policy since the driver was loaded (nvml.h, perf policy counters; they advance in steps
# of about 0.1 s). Only ids that mean the same in every driver: those of the hardware slowdowns moved between releases.
THROTTLE_FIELDS = {74: "power", 75: "thermal", 76: "sync boost", 77: "board limit", 79: "reliability"}

# Above this utilisation the card counts as busy, so that its PCIe link runs at full speed.
BUSY_PERCENT = 50.0

# Rows kept per device (20 minutes at 10 Hz); beyond it every second row is dropped: a long run keeps its whole span.
MAX_ROWS = 12_000

_CLOCK_SM = 1  # NVML_CLOCK_SM


class Handles(Struct, frozen=True):
    """`own` is the device meant; `card` the physical GPU around it, the same unless `instance` names a MIG instance."""

    own: Handle
    card: Handle
    instance: int | None = None


class SampledDevice(Struct, eq=False):
    """State of one device; `target` is an NVML index or a UUID, with or without its prefix."""

    target: int | str
    uuid: str | None = None
    card_uuid: str | None = None  # of the physical GPU: another one only for a MIG instance
    static: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, float | int | None]]] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)  # the most seen: PCIe generation and width, processes
    throttle_s: tuple[tuple[str, float], ...] = ()
    lost: bool = False
    opened: bool = False
    stride: int = 1
    _utilization: float | None = None
    _handles: Handles | None = None
    _probes: list[Probe] = field(default_factory=list)
    _gpm: Gpm | None = None
    _throttled: dict[int, float | None] = field(default_factory=dict)
    _visits: int = 0

    def open(self, nvml: Nvml) -> None:
        """Find the device and what it can tell; a device that cannot be found is noted and left out."""
        handles, error = attempt(lambda: find(nvml, self.target))
        if handles is None:
            self.notes.append(f"device {self.target} was not found: {meaning(error) if error else 'unknown'}")
            return
        self._handles = handles
        first, self.opened = not self.opened, True
        if first:
            self.static = _describe(nvml, handles)
            self.uuid, self.card_uuid = self.static.pop("uuid"), self.static.pop("card_uuid")
            self.notes.extend(_mig_notes(nvml, handles))
            self._throttled = self._counters(nvml)
        self._connect(nvml, handles, first)

    def _connect(self, nvml: Nvml, handles: Handles, first: bool) -> None:
        supported, _ = attempt(lambda: field_values(nvml, handles.card, FAST_FIELDS))
        self._probes = card_probes(nvml, handles.card, tuple(supported or ()))
        self._probes += own_probes(nvml, handles.own)
        self._probes.append(link_probe(nvml, handles.card, lambda: (self._utilization or 0.0) >= BUSY_PERCENT))
        # Buffers of a session that somebody shut down are left alone: the driver may have freed them.
        self._gpm, reason = open_gpm(nvml, handles.card, handles.instance)
        if self._gpm is not None:
            self._probes.append(Probe("GPM", [self._gpm.read], MIN_INTERVAL_NS, GPM_CALLS))
        elif first and reason:
            self.notes.append(reason)
        if first and FIELD_POWER_INSTANT not in (supported or ()):
            self.notes.append("power is the driver's 1 s average on this GPU or driver")

    def answers_to(self, uuid: str) -> bool:
        """Whether CUDA may mean this device by a UUID: of a MIG instance it may give the card's."""
        known = {_bare(own) for own in (self.uuid, self.card_uuid) if own is not None}
        return self.opened and _bare(uuid) in known

    def sample(self, clock: Callable[[], int]) -> Fault | None:
        """Read what is due and append a row; returns the fault that ends the device or the session."""
        begun = clock()
        row: dict[str, float | int | None] = {}
        for probe in due(self._probes, begun):
            reading, fault = probe.read(begun)
            if fault is Fault.DEVICE:
                self._lose(probe)
            if fault is not None:
                return fault
            row.update(reading)
        self._keep((begun + clock()) // 2, row)
        if any(probe.reads for probe in self._probes if not probe.waits):
            return None
        self._lose(self._probes[0])
        return Fault.DEVICE

    def _lose(self, probe: Probe) -> None:
        """Give the device up: it is gone, or a driver that answers nothing any more leaves no reading to take."""
        self.lost = True
        self.notes.append(f"lost while sampling: {probe.error} in {probe.name}")

    def _keep(self, time_ns: int, row: dict[str, float | int | None]) -> None:
        for name in ("pcie_gen", "pcie_width", "processes"):
            value = row.pop(name, None)
            if value is not None:
                self.highest[name] = max(int(value), self.highest.get(name, 0))
        if row.get("util_gpu") is not None:
            self._utilization = row["util_gpu"]
        self._visits += 1
        if self._visits % self.stride:
            return
        self.rows.append((time_ns, row))
        if len(self.rows) >= MAX_ROWS:
            self.rows = self.rows[::2]
            self.stride *= 2

    def close(self, nvml: Nvml) -> None:
        """Read the counters a second time and free what was allocated."""
        if self.opened and not self.lost:
            self.throttle_s = _seconds_between(self._throttled, self._counters(nvml))
        if self._gpm is not None:
            self._gpm.free()

    def _counters(self, nvml: Nvml) -> dict[int, float | None]:
        handles = self._handles
        assert handles is not None
        values, _ = attempt(lambda: field_values(nvml, handles.card, tuple(THROTTLE_FIELDS)))
        return values or {}

    def result(self, status: str, notes: tuple[str, ...]) -> DeviceSamples:
        """Everything read so far, as columns; `status` and `notes` are the sampler's."""
        rows = list(self.rows)
        read: dict[str, Any] = {name: tuple(row.get(name) for _, row in rows) for name in COLUMNS}
        own = "lost" if self.lost else "unavailable" if not self.opened else status
        failed = tuple(f"{probe.name}: not readable ({probe.error})" for probe in self._probes if not probe.reads)
        return DeviceSamples(
            device=self.uuid or str(self.target),
            time_ns=tuple(time for time, _ in rows),
            throttle_s=self.throttle_s,
            status=own,
            notes=(*self.notes, *failed, *notes),
            **(read | self.static | self.highest),
        )


def find(nvml: Nvml, target: int | str) -> Handles:
    """Handles of an NVML index, or of a UUID with or without its `GPU-` or `MIG-` prefix (torch gives it without).

    Raises:
        Exception: what NVML raises when there is no such device.
    """
    if isinstance(target, int):
        own = nvml.nvmlDeviceGetHandleByIndex(target)
    elif target.startswith(("GPU-", "MIG-")):
        own = nvml.nvmlDeviceGetHandleByUUID(target)
    else:
        own, error = attempt(lambda: nvml.nvmlDeviceGetHandleByUUID(f"GPU-{target}"))
        if error is not None:
            own = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{target}")
    is_mig, _ = attempt(lambda: bool(getattr(flag := nvml.nvmlDeviceIsMigDeviceHandle(own), "value", flag)))
    if not is_mig:
        return Handles(own, own)
    card = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(own)
    instance, _ = attempt(lambda: int(nvml.nvmlDeviceGetGpuInstanceId(own)))
    return Handles(own, card, instance)


def _bare(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-")


def _describe(nvml: Nvml, handles: Handles) -> dict[str, Any]:
    own, card = handles.own, handles.card
    readings: dict[str, Callable[[], Any]] = {
        "uuid": lambda: text(nvml.nvmlDeviceGetUUID(own)),
        "card_uuid": lambda: text(nvml.nvmlDeviceGetUUID(card)),
        "name": lambda: text(nvml.nvmlDeviceGetName(own)),
        "driver": lambda: text(nvml.nvmlSystemGetDriverVersion()),
        "max_sm_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(card, _CLOCK_SM),
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) * MILLI,
        "default_power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(card) * MILLI,
        "memory_total_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(own).total,
        "pcie_gen_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(card),
        "pcie_width_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(card),
    }
    return {name: attempt(read)[0] for name, read in readings.items()}


def _mig_notes(nvml: Nvml, handles: Handles) -> list[str]:
    if handles.instance is not None or handles.own is not handles.card:
        return [
            "MIG instance: clocks, power, temperature and PCIe are measured for the whole card, which others also use"
        ]
    mode, _ = attempt(lambda: nvml.nvmlDeviceGetMigMode(handles.card)[0])
    return ["MIG is enabled: clocks and power are measured for the whole card, not for one instance"] if mode else []


def _seconds_between(first: dict[int, float | None], last: dict[int, float | None]) -> tuple[tuple[str, float], ...]:
    """Seconds that each counter advanced; one that is missing at either end, or ran backwards, is left out."""
    out = []
    for fid, name in THROTTLE_FIELDS.items():
        a, b = first.get(fid), last.get(fid)
        if a is not None and b is not None and b >= a:
            out.append((name, (b - a) / NS_PER_S))
    return tuple(out)
