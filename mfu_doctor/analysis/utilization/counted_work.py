"""The work of the device with its FLOPs and its least memory traffic, and the peaks of the device.

MFU, its losses and the waterfall are calculated from this value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.utilization.flops import FlopCount
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.devices import Peaks


class CountedWork(Struct, frozen=True):
    """The work of a run and the two sides of its roofline."""

    work: Work
    flops: FlopCount
    least_bytes: npt.NDArray[np.float64]  # least memory traffic of each device operation, NaN if unknown; shape (n,)
    peaks: Peaks
