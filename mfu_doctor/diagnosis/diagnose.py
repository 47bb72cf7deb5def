"""From a run to the `Report`: call the rules, predict what the fixes save, rank the findings, and collect all values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.summary.counters import counters_of
from mfu_doctor.analysis.summary.drawing import draw_step
from mfu_doctor.analysis.summary.tables import kernel_rows, module_rows, op_rows
from mfu_doctor.analysis.utilization.mfu import device_info
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.analysis.views.steps import StepKind
from mfu_doctor.diagnosis.about_run import run_info
from mfu_doctor.diagnosis.bottleneck import bound_by
from mfu_doctor.diagnosis.lost_device import report_without_device
from mfu_doctor.diagnosis.plan import make_plan
from mfu_doctor.diagnosis.pricing import Priced, price_findings, rank, scale_of
from mfu_doctor.diagnosis.rule_runner import examine, findings
from mfu_doctor.diagnosis.statuses import cautions, diagnoses
from mfu_doctor.quantities import signed_percent
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import ReplayInfo
from mfu_doctor.result.step import RECORDED, TIMED, Breakdown, StepRow, StepTime, median_step, step_time_of
from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.contract import Rule
from mfu_doctor.units import seconds
from mfu_doctor.version import __version__


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A run's report, and its findings with their predicted savings in rank order, which only `annotate` needs."""

    report: Report
    ranked: tuple[Priced, ...]


def diagnose_run(run: Run, rules: Sequence[Rule] = RULES) -> Diagnosed:
    """Call the rules, predict savings by replay, rank the findings and make the plan. Every report is made here.

    Args:
        run: the run.
        rules: the rules to ask, in catalogue order.

    Raises:
        DoctorError: the run has no steps.
    """
    if run.lost_device is not None:
        return Diagnosed(report_without_device(run, run.lost_device, rules), ())
    examined = examine(run, rules)
    step_time = _step_time(run)
    mfu = run.mfu.report
    replay = run.replay
    scale = scale_of(run, step_time.median)
    ranked = rank(price_findings(replay, findings(examined), scale), replay.measured_ns)
    structure, places = counters_of(run)
    split = _breakdown(run.breakdown.median)
    report = Report(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run_info(run),
        device=device_info(run.counted, run.mfu),
        step_time_s=step_time,
        mfu=mfu,
        breakdown=split,
        waterfall=run.waterfall.bars,
        waterfall_note=run.waterfall.note,
        bound=bound_by(split, 1.0 if run.later_waits is None else run.later_waits.share),
        steps=_step_rows(run),
        drawing=draw_step(run),
        diagnoses=tuple(diagnoses(examined, ranked, replay)),
        plan=make_plan(replay, ranked, scale),
        replay=_replay_info(replay),
        kernels=kernel_rows(run),
        ops=op_rows(run),
        modules=module_rows(run),
        samples=run.facts.samples if run.facts is not None else (),
        structure=structure,
        places=places,
        whole_run=run.facts.whole_run if run.facts is not None else None,
        problems=tuple(p.text for p in run.trace.problems),
        cautions=cautions(run, examined),
    )
    return Diagnosed(report, tuple(ranked))


def _step_time(run: Run) -> StepTime:
    """The steps without the profiler if profile() timed them, else the recorded windows."""
    windows = [seconds(int(d)) for d in run.steps.duration[run.steps.steady]]
    timed = run.timed_steps_s
    profiled = median_step(windows, RECORDED)
    found = step_time_of(timed, TIMED, profiled=profiled) if timed else step_time_of(windows, RECORDED)
    to_mean = run.replay.mean_over_median
    return replace(found, mean=found.median * to_mean) if to_mean > 1 else found


def _breakdown(split: Split) -> Breakdown:
    return Breakdown(
        step_s=seconds(split.total),
        compute=seconds(split.compute),
        communication=seconds(split.communication),
        memory_copy=seconds(split.memory_copy),
        data_loading=seconds(split.data_loading),
        idle=seconds(split.idle),
        idle_causes={name: seconds(ns) for name, ns in split.causes.items()},
    )


def _step_rows(run: Run) -> tuple[StepRow, ...]:
    steps = run.steps
    origin = int(steps.start[0])
    return tuple(
        StepRow(
            number=int(steps.number[i]),
            start_s=seconds(int(steps.start[i]) - origin),
            split=_breakdown(run.breakdown.steps[i]),
            steady=bool(steps.steady[i]),
            left_out=StepKind(int(steps.kind[i])).reason,
        )
        for i in range(steps.count)
    )


def _replay_info(replay: Replay) -> ReplayInfo:
    reason = None
    if replay.distrust is not None:
        reason = f"no savings are predicted: {replay.distrust}"
    elif replay.widening:
        off = signed_percent(replay.error)
        reason = f"the replay of the unchanged run differs from the measured step by {off}: ranges are wider by this"
    return ReplayInfo(
        error=replay.error if replay.tested else None,
        predicted_s=seconds(replay.model_ns),
        measured_s=seconds(replay.measured_ns),
        trusted=replay.trusted,
        reason=reason,
    )
