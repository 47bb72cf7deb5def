"""The device sampler: a daemon thread that reads NVML ten times a second and never blocks the training loop.

Everything that can block or fail in a driver happens on this thread: initialising NVML (seconds, when no client holds
the GPU), every call, shutting down. `start` and `stop` return promptly and never raise; a hung driver costs `stop` its
timeout once and the thread is abandoned.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from mfu_doctor.capture.device.nvml import Fault, Nvml, attempt, load, meaning, text
from mfu_doctor.capture.device.sampled_device import SampledDevice
from mfu_doctor.capture.device.visible_devices import visible_targets
from mfu_doctor.capture.patience import joined
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.quantities import duration
from mfu_doctor.units import NS_PER_S

TICKS_PER_S = 10

# A tick may take this share of its period; a slower driver is asked less often.
BUSY_SHARE = 0.5

# The longest period that slow calls are answered with, in seconds.
MAX_PERIOD_S = 5.0


class DeviceSampler:
    """Samples the devices of this process until it is stopped.

    Each tick reads one device with at most five C calls; several devices take turns. Until `own` answers, the devices are
    those that CUDA_VISIBLE_DEVICES shows; from then on they are its answer and no other.

    Args:
        nvml: a pynvml-shaped module; None imports pynvml on the thread.
        clock: unix time in nanoseconds, the trace's clock.
        sleep: waits so many seconds and returns whether to stop; None waits for `stop`.
        targets: NVML indices or UUIDs (torch's, with or without prefix); None: what CUDA_VISIBLE_DEVICES shows.
        own: called on the thread at each tick; UUIDs of the devices that this process uses, None while unknown.
    """

    def __init__(
        self,
        nvml: Nvml | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], bool] | None = None,
        targets: Sequence[int | str] | None = None,
        own: Callable[[], tuple[str, ...] | None] | None = None,
    ) -> None:
        self._nvml = nvml
        self._base_period_ns = NS_PER_S // TICKS_PER_S
        self._clock = clock
        self._stopping = threading.Event()
        self._sleep = sleep if sleep is not None else self._stopping.wait
        self._targets = targets
        self._own = own
        self._followed: tuple[str, ...] | None = None  # the last answer of `own`
        self._doubt: str | None = None  # about the devices that CUDA_VISIBLE_DEVICES shows
        self._devices: list[SampledDevice] = []
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._notes: list[str] = []
        self._reopened = False
        self._longest_period_ns = self._base_period_ns
        self.status = "not started"  # unavailable, no-devices, running, stopped, all-devices-lost, hung, failed
        self.reason: str | None = None

    def start(self) -> None:
        """Begin sampling; a second call, or one in a forked child, does nothing."""
        if self._thread is not None or os.getpid() != self._pid:
            return
        self.status = "starting"
        self._thread = threading.Thread(target=self._run, name="mfu-doctor-nvml", daemon=True)
        _, error = attempt(self._thread.start)
        if error is not None:
            self._thread = None
            self._end("failed", f"the sampling thread did not start: {error}")

    def stop(self, timeout: float = 2.0) -> tuple[tuple[DeviceSamples, ...], str]:
        """End sampling and return what was read.

        Args:
            timeout: seconds to wait for a call that the driver does not return from.

        Returns:
            Samples per device, and the overall status: stopped, unavailable, no-devices, all-devices-lost, hung, failed
            or not started. `reason` says more.
        """
        if os.getpid() != self._pid:
            return (), "not started"
        self._stopping.set()
        if self._thread is not None and not joined(self._thread, timeout):
            self._end("hung", f"a driver call did not return within {timeout:g} s; sampling was abandoned")
        status, notes = self.status, tuple(self._all_notes())
        results, error = attempt(lambda: tuple(device.result(status, notes) for device in self._devices))
        if error is not None:
            self._end("failed", meaning(error))
        return results or (), self.status

    def _end(self, status: str, reason: str | None) -> None:
        self.status, self.reason = status, reason

    def _all_notes(self) -> list[str]:
        notes = list(self._notes)
        if self._followed is None and self._doubt is not None:
            notes.append(self._doubt)
        if self._followed is None and self._own is not None:
            notes.append("CUDA was not initialized in this process, so all visible GPUs were sampled")
        if self._longest_period_ns > self._base_period_ns:
            longest = self._longest_period_ns / NS_PER_S
            notes.append(
                f"NVML calls are slow on this machine: the sampling interval was increased to {duration(longest, 2)}"
            )
        return notes

    def _run(self) -> None:
        _, error = attempt(self._open)
        if error is not None:
            self._end("unavailable", meaning(error))
            return
        _, error = attempt(self._session)
        if error is not None:
            self._end("failed", meaning(error))
        for device in self._devices:
            attempt(partial(device.close, self._nvml))
        attempt(self._close)

    def _open(self) -> None:
        if self._nvml is None:
            self._nvml = load()
        self._nvml.nvmlInit()

    def _close(self) -> None:
        assert self._nvml is not None
        self._nvml.nvmlShutdown()

    def _session(self) -> None:
        targets = self._choose_targets()
        if self._answer() is not None:
            targets = tuple(target for target in targets if isinstance(target, str))  # MIG: CUDA may name its card
        self._devices = [SampledDevice(target) for target in targets]
        for device in self._devices:
            device.open(self._nvml)
        self._follow_own()
        if self._any_opened():
            self.status = "running"
            self._loop()
            self._follow_own()  # what the last steps showed is used for all rows
        if self.status == "running":
            self._end("stopped", None)
        if not self._any_opened():
            unknown = self._followed and f"NVML does not know the GPU of this process ({', '.join(self._followed)})"
            self._end("no-devices", unknown or "NVML lists no GPU that is visible to this process")

    def _any_opened(self) -> bool:
        return any(device.opened for device in self._devices)

    def _answer(self) -> tuple[str, ...] | None:
        return self._own() if self._own is not None else None

    def _follow_own(self) -> None:
        """Keep the devices that this process uses, open those that are not sampled yet, and leave all others."""
        answer = self._answer()
        if answer is None or answer == self._followed:
            return
        before, self._followed = self._devices, answer
        self._devices = [self._device_of(uuid, before) for uuid in answer]
        for device in before:
            if device not in self._devices:
                device.close(self._nvml)

    def _device_of(self, uuid: str, sampled: Sequence[SampledDevice]) -> SampledDevice:
        found = next((device for device in sampled if device.answers_to(uuid)), None)
        if found is None:
            found = SampledDevice(uuid)
            found.open(self._nvml)
        return found

    def _choose_targets(self) -> tuple[int | str, ...]:
        if self._targets is not None:
            return tuple(self._targets)
        nvml = self._nvml
        assert nvml is not None
        uuids, names = [], []
        for index in range(nvml.nvmlDeviceGetCount()):
            uuids.append(attempt(partial(_identity, nvml, index, "nvmlDeviceGetUUID"))[0])
            names.append(attempt(partial(_identity, nvml, index, "nvmlDeviceGetName"))[0])
        targets, self._doubt = visible_targets(os.environ, uuids, names)
        return targets

    def _loop(self) -> None:
        """Tick on an absolute schedule; a tick that comes late starts a new one, and slow ticks stretch it."""
        turn, due_ns = 0, self._clock()
        while not self._stopping.is_set():
            self._follow_own()
            live = [device for device in self._devices if device.opened and not device.lost]
            if not live:
                self._end("all-devices-lost", "; ".join(device.notes[-1] for device in self._devices if device.lost))
                return
            begun = self._clock()
            fault = live[turn % len(live)].sample(self._clock)
            if fault is Fault.SESSION and not self._reopen():
                self._end("failed", "another library shut NVML down twice")
                return
            turn += 1
            now = self._clock()
            period = self._period(now - begun)
            due_ns = due_ns + period if now < due_ns + period <= now + period else now + period
            if self._sleep((due_ns - now) / NS_PER_S):
                return

    def _period(self, cost_ns: int) -> int:
        """Nanoseconds between ticks when one takes `cost_ns` (negative if the wall clock was set back)."""
        period = min(max(int(cost_ns / BUSY_SHARE), self._base_period_ns), int(MAX_PERIOD_S * NS_PER_S))
        self._longest_period_ns = max(self._longest_period_ns, period)
        return period

    def _reopen(self) -> bool:
        """Initialise NVML again after another library shut it down, but only once."""
        nvml = self._nvml
        if self._reopened or nvml is None:
            return False
        self._reopened = True
        _, error = attempt(nvml.nvmlInit)
        if error is not None:
            return False
        for device in self._devices:
            if device.opened and not device.lost:
                device.open(nvml)
        self._notes.append("another library shut NVML down; sampling started it again once")
        return True


def _identity(nvml: Nvml, index: int, getter: str) -> str:
    return text(getattr(nvml, getter)(nvml.nvmlDeviceGetHandleByIndex(index)))
