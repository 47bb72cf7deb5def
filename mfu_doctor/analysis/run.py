"""A run: lazy views on one trace, each computed once. It is the only argument that a rule receives.

Each view has its own module and is a plain frozen value. `Run` only connects them.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.build_replay import build_replay
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.utilization.borrowed_shapes import misfit
from mfu_doctor.analysis.utilization.counted_work import CountedWork
from mfu_doctor.analysis.utilization.flops import FlopCount, count_flops
from mfu_doctor.analysis.utilization.mfu import MfuResult, measure_mfu
from mfu_doctor.analysis.utilization.reached_rates import reached_rates
from mfu_doctor.analysis.utilization.traffic import least_bytes
from mfu_doctor.analysis.utilization.waterfall import LeastTimes, Waterfall, build_waterfall, least_times
from mfu_doctor.analysis.views.activity import Activity, device_activity
from mfu_doctor.analysis.views.breakdown import Breakdowns, split_steps
from mfu_doctor.analysis.views.core_waits import CoreWaits, core_waits
from mfu_doctor.analysis.views.extra_work import extra_work
from mfu_doctor.analysis.views.forward_ops import forward_of
from mfu_doctor.analysis.views.growth import Growth, growth_of
from mfu_doctor.analysis.views.host import Host, host_view
from mfu_doctor.analysis.views.host_computing import host_computing
from mfu_doctor.analysis.views.kernels import KernelTable, classify
from mfu_doctor.analysis.views.later_waits import LaterWaits, later_waits
from mfu_doctor.analysis.views.launches import Launches, link
from mfu_doctor.analysis.views.lost_device import LostDevice, cut_inside, is_cut, lost_device
from mfu_doctor.analysis.views.mean_step import MeanStep, mean_step
from mfu_doctor.analysis.views.nesting import OpTree, nest_ops
from mfu_doctor.analysis.views.optimizer_steps import OptimizerSteps, optimizer_steps
from mfu_doctor.analysis.views.python_lines import awake_share
from mfu_doctor.analysis.views.quickest import Quickest, quickest
from mfu_doctor.analysis.views.run_noise import run_noise
from mfu_doctor.analysis.views.source_lines import Spot
from mfu_doctor.analysis.views.step_kinds import recorded_steps
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.timed_steps import timed_steps
from mfu_doctor.analysis.views.user_code import UserCode, user_code
from mfu_doctor.analysis.views.windows import TimingView, timing_view, without_borrowed
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.devices import Peaks, resolve
from mfu_doctor.facts import Facts
from mfu_doctor.trace import Trace


class Options(Struct, frozen=True, kw_only=True):
    """What the user may override; None means "find out"."""

    peak_flops: float | None = None  # dense FLOP/s of the dtype in use
    model_flops: float | None = None  # FLOP per step
    steps: tuple[int, int] | None = None  # judge only these recorded steps, half-open


class Run:
    """One trace, analysed on demand.

    Args:
        trace: the trace from a reader. If it has two windows, times come from the first and shapes from the second.
        options: the user's overrides.
    """

    def __init__(self, trace: Trace, options: Options | None = None) -> None:
        self.recorded = trace
        self.options = options or Options()
        self.answers: dict[object, object] = {}  # see `once`

    @property
    def facts(self) -> Facts | None:
        """The metadata that profile() wrote; None for a trace of another profiler."""
        return self.recorded.facts

    @property
    def timed_steps_s(self) -> tuple[float, ...]:
        """Step times without the profiler in seconds, evened out over the bursts of the loader; empty for other traces."""
        return timed_steps(self.facts)

    @cached_property
    def _fitted(self) -> tuple[TimingView, str | None]:
        """The view, and what shows that the timed steps have other shapes than the one in depth, if anything does."""
        view = timing_view(self.recorded)
        other = misfit(self.recorded, view.trace) if view.twin is not None else None
        return (view, None) if other is None else (without_borrowed(self.recorded, view), other)

    @property
    def _view(self) -> TimingView:
        return self._fitted[0]

    @property
    def trace(self) -> Trace:
        """The trace to analyse: the timing window, with shapes carried over from the shapes window."""
        return self._view.trace

    @property
    def borrows_shapes(self) -> bool:
        """Whether the shapes of all steps are those of the one that was recorded in depth: how steps differ is then not known."""
        return self._view.twin is not None

    def recorded_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """For each event row of `trace` its twin in `recorded` that was recorded in depth (with shapes, stacks), or -1."""
        twin = self._view.twin
        return rows if twin is None else twin[rows]

    @cached_property
    def user_code(self) -> UserCode:
        """The Python around events and times of `trace`, as far as stacks and samples tell."""
        return user_code(self.recorded, self._view)

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[str | None, ...]:
        """The user's file:line behind each event row of `trace`, or None if neither stacks nor samples tell.

        Of work in backward it is the line of the operator that caused it, not that of `loss.backward()`.
        """
        forward, which = numbered(forward_of(self.trace, self.ops, rows))  # a node has many rows
        found = self.user_code.places(forward)
        return tuple(found[i] for i in which.tolist())

    @property
    def trainers(self) -> frozenset[str]:
        """Functions of libraries that train, inside of which the steps run: "lightning.fit"; as far as stacks tell."""
        return self.user_code.frames.trainers

    def spent_at(self, where: Intervals) -> Spot | None:
        """The user's code in which most of this host time of `trace` went by."""
        return self.user_code.spent_at(where, self.host.main_track)

    def inside_at(self, where: Intervals) -> Spot | None:
        """The user's code in which most of this host time went by, operators too; only from this time itself."""
        return self.user_code.inside_at(where, self.host.main_track)

    def python_at(self, where: Intervals) -> Spot | None:
        """The user's code that ran for most of this host time and can be moved out of the step: it issues no operators."""
        return self.user_code.python_at(where, self.host.main_track)

    def inside_only(self, where: Intervals, apart: Intervals) -> Spot | None:
        """As `inside_at`, of code that does not run in the host time `apart`."""
        return self.user_code.inside_only(where, apart, self.host.main_track)

    def python_only(self, where: Intervals, apart: Intervals) -> Spot | None:
        """As `python_at`, of code that does not run in the host time `apart`."""
        return self.user_code.python_only(where, apart, self.host.main_track)

    def awake_share(self, where: Intervals) -> float | None:
        """Share of this host time that the training thread's own work takes, by its CPU time; None if that was not recorded."""
        return awake_share(self.trace, where, self.host.fetch | self.host.blocking)

    @property
    def is_cpu(self) -> bool:
        """Whether there is no device work in the trace, so that ops on the host are the device."""
        return not self.activity.is_device

    @cached_property
    def lost_device(self) -> LostDevice | None:
        """Why the trace of a GPU run has no kernel (its operators are then launches, not work), or only a part of its step."""
        lost = lost_device(self.trace, self.ops)
        if lost is not None or self.is_cpu or not is_cut(self.trace):
            return lost
        return cut_inside(self.trace, self.launches, self.steps)

    @cached_property
    def ops(self) -> OpTree:
        """Nesting of operators, annotations and runtime calls on their threads."""
        return nest_ops(self.trace)

    @cached_property
    def activity(self) -> Activity:
        """Device work: kernels, copies and memsets; on a CPU-only trace the self time of ops."""
        return device_activity(self.trace, self.ops)

    @cached_property
    def launches(self) -> Launches:
        """For each device operation the runtime call that launched it and the operator that owns it."""
        return link(self.trace, self.activity, self.ops)

    @cached_property
    def host(self) -> Host:
        """What the host threads did: data fetches, syncs, allocations, compilation."""
        return host_view(self.trace, host_computing(self.trace, self.ops, self.activity, self.launches))

    @cached_property
    def steps(self) -> Steps:
        """Step windows, which of them are analysed, and where they come from."""
        return recorded_steps(self.trace, self.activity, self.launches, self.host, self.options.steps)

    @cached_property
    def extra_work(self) -> Intervals:
        """Host time of long steps in operators that usual steps do not have."""
        return extra_work(self.trace, self.steps, self.host)

    @cached_property
    def mean_step(self) -> MeanStep:
        """What a step takes: the one that every value of the report is of."""
        return mean_step(self.steps, self.facts)

    @cached_property
    def growth(self) -> Growth | None:
        """How the usual step grows over the run; None if it does not, or if nothing tells."""
        return growth_of(self.facts)

    @cached_property
    def noise(self) -> float:
        """The share of the step by which this run and its like differ by chance; 0 if too few steps were timed to tell."""
        return run_noise(self.steps, self.facts if self.growth is None else None)  # growth comes again: it is no chance

    @cached_property
    def later_waits(self) -> LaterWaits | None:
        """Waits for data per step, recorded and in the rest of the run; None if the run was not timed to its end."""
        return later_waits(self.steps, self.host, self.facts)

    @cached_property
    def core_waits(self) -> CoreWaits | str:
        """How long threads of training waited for a core, and who had the cores; or why that is not known."""
        host = self.facts.host if self.facts is not None else None
        quick = self.quickest if host is not None and host.turns is not None else None
        return core_waits(self.facts, is_cpu=self.is_cpu, held_up=None if quick is None else quick.held_up)

    @cached_property
    def quickest(self) -> Quickest | None:
        """How quick the operators of a step can be; None if a device runs them, or too few steps are alike."""
        return quickest(self.trace, self.activity, self.steps) if self.is_cpu else None

    @cached_property
    def breakdown(self) -> Breakdowns:
        """The exclusive split of each step."""
        return split_steps(self.trace, self.activity, self.launches, self.host, self.steps)

    @cached_property
    def optimizer_steps(self) -> OptimizerSteps:
        """The optimizer's step events and its own time in them: closures compute loss and gradients there."""
        return optimizer_steps(self.trace, self.ops)

    @cached_property
    def kernels(self) -> KernelTable:
        """Class and dtype of each device operation, by its name and its operator."""
        return classify(self.trace, self.activity, self.launches, self.optimizer_steps.own)

    @cached_property
    def work(self) -> Work:
        """What ran on the device, and in which steps."""
        return Work(self.trace, self.ops, self.activity, self.launches, self.kernels, self.steps)

    @cached_property
    def flops(self) -> FlopCount:
        """FLOPs of each device operation and per step."""
        count, misfitting = count_flops(self.work), self._fitted[1]
        return count if misfitting is None else replace(count, reason=f"{misfitting}: pass --model-flops")

    @cached_property
    def least_bytes(self) -> npt.NDArray[np.float64]:
        """Least memory traffic of each device operation in bytes, NaN if shapes do not say; shape (n,)."""
        return least_bytes(self.work, self.flops)

    @cached_property
    def peaks(self) -> Peaks:
        """Dense peaks of the device in use, or the reason that they are unknown."""
        on_cpu = self.is_cpu and self.lost_device is None
        reached = reached_rates(self.recorded) if on_cpu else {}
        return resolve(self.trace, self.options.peak_flops, is_cpu=on_cpu, reached=reached)

    @cached_property
    def counted(self) -> CountedWork:
        """The work with its FLOPs and its traffic, and what the device can do at most."""
        return CountedWork(self.work, self.flops, self.least_bytes, self.peaks)

    @cached_property
    def mfu(self) -> MfuResult:
        """MFU, HFU and their denominators."""
        return measure_mfu(self.counted, self.options.model_flops)

    @cached_property
    def waterfall(self) -> Waterfall:
        """Named bars that sum to the mean step."""
        return build_waterfall(self.counted, self.mfu, self.breakdown.whole)

    @cached_property
    def least_times(self) -> LeastTimes | None:
        """The mean step at its best; None without a peak."""
        return least_times(self.counted, self.mfu)

    @cached_property
    def replay(self) -> Replay:
        """The timeline as a model that can be changed and run again, without the profiler's time if that is known."""
        return build_replay(self.work, self.host, self.core_waits)

    @cached_property
    def unrecorded_ns(self) -> npt.NDArray[np.float64]:
        """The duration of each entry of the activity table without a profiler, in nanoseconds, shape (n,)."""
        return self.replay.unrecorded_ns(self.activity)
