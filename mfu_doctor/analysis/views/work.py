"""The device work of a run and its steps: all utilization measures are calculated from this value."""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.analysis.views.kernels import KernelTable
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.trace import Trace


class Work(Struct, frozen=True):
    """One trace with its device work; `activity`, `launches` and `kernels` have one row per device operation."""

    trace: Trace
    ops: OpTree  # nesting of operators
    activity: Activity
    launches: Launches
    kernels: KernelTable
    steps: Steps
