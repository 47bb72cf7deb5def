"""Samples the devices that this process uses, from the start of a capture to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.facts import DeviceSamples


class DeviceWatch:
    """Finds the devices in use and has them sampled.

    Args:
        notes: where to say what could not be done.
        nvml: a module to use instead of pynvml.
        current_devices: tells the devices in use; None while none is.
    """

    def __init__(self, notes: Notes, nvml: Any, current_devices: Callable[[], tuple[str, ...] | None]) -> None:
        self._notes = notes
        self._nvml = nvml
        self._asked = current_devices
        self._found: tuple[str, ...] | None = None
        self._sampler: Any = None

    def start(self) -> None:
        """Begin to sample."""
        from mfu_doctor.capture.device.sampler import DeviceSampler

        self.find()
        self._sampler = DeviceSampler(self._nvml, own=lambda: self._found)
        self._sampler.start()

    def find(self, *, again: bool = True) -> None:
        """Look which devices are in use; if not `again`, only while none is known."""
        if self._found is not None and not again:
            return
        found = self._notes.guarded("the GPU in use could not be determined", self._asked)
        self._found = found or self._found

    def stop(self) -> tuple[tuple[DeviceSamples, ...], str] | None:
        """Stop sampling; returns the samples and how the sampling went, None if it did not start."""
        if self._sampler is None:
            return None
        self.find()
        samples, status = self._sampler.stop()
        reason = self._sampler.reason
        if reason and self._found:
            self._notes.say(f"device samples: {reason}")
        self._sampler = None
        return samples, f"{status}: {reason}" if reason else status
