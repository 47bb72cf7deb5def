"""A run: lazy views on one trace, each computed once; the only argument that a rule receives.

Each view lives in its own module and is a plain frozen value; `Run` only wires them together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, median

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.replay.profiler_overhead import deflate
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.timeline import build_timeline
from mfu_doctor.analysis.utilization.flops import FlopCount, count_flops
from mfu_doctor.analysis.utilization.mfu import MfuResult, measure_mfu
from mfu_doctor.analysis.utilization.waterfall import Waterfall, build_waterfall
from mfu_doctor.analysis.views.activity import Activity, device_activity
from mfu_doctor.analysis.views.breakdown import Breakdowns, split_steps
from mfu_doctor.analysis.views.disturbed_steps import are_often_long, is_rarely_long, without_accidents
from mfu_doctor.analysis.views.host import Host, host_view
from mfu_doctor.analysis.views.kernels import KernelTable, classify
from mfu_doctor.analysis.views.launches import Launches, link
from mfu_doctor.analysis.views.nesting import OpTree, nest_ops
from mfu_doctor.analysis.views.source_lines import Spot, UserFrames, places_of, spent_at, user_frames
from mfu_doctor.analysis.views.steps import Steps, find_steps
from mfu_doctor.analysis.views.windows import SHAPES, TimingView, timing_view
from mfu_doctor.devices import Peaks, resolve
from mfu_doctor.facts import Facts
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may override; None means "find out"."""

    peak_flops: float | None = None  # dense FLOP/s of the dtype in use
    model_flops: float | None = None  # FLOP per step
    steps: tuple[int, int] | None = None  # judge only these recorded steps, half-open


def evened(times: tuple[float, ...], burst: int) -> tuple[float, ...]:
    """Means of `burst` consecutive times, where that leaves at least three; the times themselves otherwise."""
    if burst < 2 or len(times) < burst + 2:
        return times
    return tuple(sum(times[i : i + burst]) / burst for i in range(len(times) - burst + 1))


class Run:
    """One trace, analysed on demand.

    Args:
        trace: what a reader returned; where it holds two windows, times come from the first and shapes from the second.
        options: the user's overrides.
    """

    def __init__(self, trace: Trace, options: Options | None = None) -> None:
        self.recorded = trace
        self.options = options or Options()

    @property
    def timed_steps_s(self) -> tuple[float, ...]:
        """Un-profiled step times of a live run in seconds, evened out over the bursts of its loader; empty for other traces.

        Workers that cannot keep up deliver in bursts, one batch each at about the same time: single steps are then long or
        short but never typical, and the mean of as many steps as there are workers is.
        """
        if self.facts is None:
            return ()
        burst = max((loader.num_workers for loader in self.facts.loaders), default=0)
        return evened(self.facts.timed_steps_s, burst)

    @property
    def facts(self) -> Facts | None:
        """What a live capture wrote, or None for a foreign trace."""
        return self.recorded.facts

    @cached_property
    def _view(self) -> TimingView:
        return timing_view(self.recorded)

    @property
    def trace(self) -> Trace:
        """The trace to analyse: the timing window, with shapes carried over from the shapes window."""
        return self._view.trace

    @cached_property
    def _frames(self) -> UserFrames:
        return user_frames(self.trace)

    @cached_property
    def _recorded_frames(self) -> UserFrames:
        return user_frames(self.recorded)

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[str | None, ...]:
        """The user's file:line behind each event row of `trace`, or None where neither stacks nor samples tell."""
        twin = self._view.twin
        found = places_of(self.trace, rows, self._frames)
        if twin is None:
            return found
        twins = twin[rows]
        from_stacks = places_of(self.recorded, np.maximum(twins, 0), self._recorded_frames)
        known = (twins >= 0).tolist()
        return tuple(s if k and s else f for f, s, k in zip(found, from_stacks, known, strict=True))

    def spent_at(self, where: Intervals) -> Spot | None:
        """The user's code in which most of this host time of `trace` went by.

        A live capture records stacks in a window of its own: where the time was not sampled, that window's time outside
        operators tells.
        """
        spot = spent_at(self.trace, where, self._frames, self.host.main_track)
        if spot is not None or self._view.twin is None:
            return spot
        host = host_view(self.recorded)
        outside = self._recorded_window(SHAPES) - host.busy - host.fetch
        return spent_at(self.recorded, outside, self._recorded_frames, host.main_track)

    def _recorded_window(self, kind: str) -> Intervals:
        windows = [w for w in self.facts.windows if w.kind == kind] if self.facts is not None else []
        edges = np.array([(w.start_ns, w.end_ns) for w in windows], np.int64).reshape(-1, 2) - self.recorded.origin_ns
        return union(edges[:, 0], edges[:, 1])

    @cached_property
    def is_cpu(self) -> bool:
        """Whether there is no device work in the trace, so that ops on the host are the device."""
        return not self.activity.is_device

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
        return host_view(self.trace)

    @cached_property
    def steps(self) -> Steps:
        """Step windows and where they come from."""
        found = find_steps(self.trace, self.activity, self.launches, self.host, self.options.steps)
        timed = self.facts.timed_steps_s if self.facts is not None else ()
        chosen = self.options.steps is not None  # the user wants these very steps
        return without_accidents(found, max(timed) * NS_PER_S if timed and not chosen else None, self._own)

    @property
    def _own(self) -> Intervals:
        """What a run does for itself however rarely."""
        return self.host.compile | self.host.gc

    @cached_property
    def breakdown(self) -> Breakdowns:
        """The exclusive split of each step."""
        return split_steps(self.trace, self.activity, self.launches, self.host, self.steps)

    @cached_property
    def kernels(self) -> KernelTable:
        """Class and dtype of each device operation, by its name and its operator."""
        return classify(self.trace, self.activity, self.launches)

    @cached_property
    def flops(self) -> FlopCount:
        """FLOPs of each device operation and per step."""
        return count_flops(self)

    @cached_property
    def peaks(self) -> Peaks:
        """Dense peaks of the device in use, or the reason that they are unknown."""
        return resolve(self.trace, self.options.peak_flops, is_cpu=self.is_cpu)

    @cached_property
    def mfu(self) -> MfuResult:
        """MFU, HFU and their denominators."""
        return measure_mfu(self)

    @cached_property
    def waterfall(self) -> Waterfall:
        """Named bars that sum to the median step."""
        return build_waterfall(self)

    @cached_property
    def replay(self) -> Replay:
        """The timeline as a model that can be changed and run again, without the profiler's time where a live run knows it."""
        recorded = build_timeline(self.trace, self.activity, self.launches, self.steps, self.host.blocking_rows)
        timed = self.timed_steps_s
        if not timed:
            return Replay(recorded, self.activity.row)
        live = recorded
        if are_often_long(timed):
            live = replace(recorded, usual_ns=recorded.measured_ns * median(timed) / fmean(timed))
        elif not is_rarely_long(self.steps, self._own):
            live = replace(recorded, usual_ns=recorded.measured_ns)
        step_ns = median(timed) * NS_PER_S * live.measured_ns / live.usual_ns
        plain = deflate(live, self.trace, step_ns)
        return Replay(recorded, self.activity.row, plain, stretch=max(plain.measured_ns / step_ns, 1.0))

    @cached_property
    def unrecorded_ns(self) -> npt.NDArray[np.float64]:
        """What each entry of the activity table takes where nothing records or stops it, in nanoseconds, shape (n,).

        A fix that leaves a part of what an operator takes must leave a part of this: the replay starts from it too. On a GPU
        and outside of the replayed steps it is the recorded time.
        """
        length = (self.activity.end - self.activity.start).astype(np.float64)
        return (
            length * self.replay.unrecorded_share(len(self.trace.events))[self.activity.row] if self.is_cpu else length
        )
