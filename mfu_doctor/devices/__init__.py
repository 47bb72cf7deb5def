"""Accelerators: the peaks of each one from a table with sources, and how the device of a trace is found in it."""

from mfu_doctor.devices.peaks import Peaks
from mfu_doctor.devices.resolve import resolve
from mfu_doctor.devices.table import DeviceRow, lookup

__all__ = ["DeviceRow", "Peaks", "lookup", "resolve"]
