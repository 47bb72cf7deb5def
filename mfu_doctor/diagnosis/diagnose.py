"""From a run to the `Report`: call the rules, predict what the fixes save, rank the findings, and collect all values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.replay import WIDEN_ABOVE, Replay
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.summary.code_lines import code_lines
from mfu_doctor.analysis.summary.counters import counters_of
from mfu_doctor.analysis.summary.drawing import draw_step
from mfu_doctor.analysis.summary.tables import kernel_rows, module_rows, op_rows
from mfu_doctor.analysis.utilization.mfu import device_info
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.analysis.views.step_windows import StepKind, Steps
from mfu_doctor.diagnosis.about_run import run_info
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.diagnosis.lost_device import report_without_device
from mfu_doctor.diagnosis.plan import make_plan
from mfu_doctor.diagnosis.pricing import Priced, price_findings, rank, scale_of
from mfu_doctor.diagnosis.rule_runner import examine, findings, without_spoilt_advice
from mfu_doctor.diagnosis.statuses import cautions, diagnoses
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import ReplayInfo
from mfu_doctor.result.step import RECORDED, TIMED, Breakdown, LeftOut, StepRow, StepTime, step_time_of
from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.contract import Rule
from mfu_doctor.units import NS_PER_S, seconds
from mfu_doctor.version import __version__

# Profiled steps that take this many times the timed ones (or the other way round) are not what those are.
_FAR_APART = 1.5


class Diagnosed(Struct, frozen=True):
    """A run's report, and its findings with their predicted savings in rank order, which only `annotate` needs."""

    report: Report
    ranked: tuple[Priced, ...]


def diagnose_run(run: Run, rules: Sequence[Rule] = RULES, *, drawn: bool = True) -> Diagnosed:
    """Call the rules, predict savings by replay, rank the findings and make the plan. Every report is made here.

    Args:
        run: the run.
        rules: the rules to ask, in catalogue order.
        drawn: whether the report has a drawing of a step, which only a page of its own shows.

    Raises:
        DoctorError: the run has no steps.
    """
    if run.lost_device is not None:
        return Diagnosed(report_without_device(run, run.lost_device, rules), ())
    examined = without_spoilt_advice(examine(run, rules))
    mfu = run.mfu.report
    replay = run.replay
    scale = scale_of(run)
    ranked = rank(price_findings(replay, findings(examined), scale), scale.step_s)
    structure, places = counters_of(run)
    split = _breakdown(run.breakdown.whole, run.breakdown.count)
    report = Report(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run_info(run),
        device=device_info(run.counted, run.mfu),
        step_time_s=_step_time(run),
        mfu=mfu,
        breakdown=split,
        waterfall=run.waterfall.bars,
        waterfall_note=run.waterfall.note,
        later_wait=None if run.later_waits is None else min(run.later_waits.share, 1.0),
        savings_are_shares=_are_far_apart(run),
        steps=_step_rows(run),
        drawing=draw_step(run) if drawn else None,
        diagnoses=tuple(diagnoses(examined, ranked, run)),
        plan=make_plan(replay, ranked, scale),
        replay=_replay_info(replay),
        kernels=kernel_rows(run),
        ops=op_rows(run),
        modules=module_rows(run),
        code_lines=code_lines(run),
        samples=run.facts.samples if run.facts is not None else (),
        structure=structure,
        places=places,
        whole_run=run.facts.whole_run if run.facts is not None else None,
        problems=tuple(p.text for p in run.trace.problems),
        cautions=cautions(run, examined),
    )
    return Diagnosed(concluded(report), tuple(ranked))


def _are_far_apart(run: Run) -> bool:
    """Whether profiled and timed steps differ so much that what a fix saves of the ones says little of the others."""
    facts = run.facts
    if facts is None or not facts.timed_steps_s or not facts.profiled_steps_s:
        return False
    least, most = sorted((median(facts.timed_steps_s), median(facts.profiled_steps_s)))
    return most > _FAR_APART * least


def _step_time(run: Run) -> StepTime:
    """The steps without the profiler if profile() timed them, else the recorded windows."""
    steps, mean = run.steps, run.mean_step
    windows = [seconds(int(d)) for d in steps.duration[steps.steady]]
    timed, mean_s = run.timed_steps_s, mean.stated_ns / NS_PER_S
    found = step_time_of(timed or windows, TIMED if timed else RECORDED, mean=mean_s)
    found = replace(found, long=mean.long, every=mean.every, left_out=_left_out(steps))
    return replace(found, profiled_median=median(windows), profiled_mean=steps.mean_ns / NS_PER_S) if timed else found


def _left_out(steps: Steps) -> tuple[LeftOut, ...]:
    """The steps that the mean is not of, by the reason."""
    found = []
    for kind in StepKind:
        mine = steps.duration[steps.kind == kind]
        if kind.reason is not None and len(mine):
            found.append(LeftOut(kind=kind.reason, count=len(mine), mean_s=float(mine.mean()) / NS_PER_S))
    return tuple(found)


def _breakdown(split: Split, count: int = 1) -> Breakdown:
    """The split of the mean of `count` steps that were split together."""
    per_s = NS_PER_S * count
    return Breakdown(
        step_s=split.total / per_s,
        compute=split.compute / per_s,
        communication=split.communication / per_s,
        memory_copy=split.memory_copy / per_s,
        data_loading=split.data_loading / per_s,
        idle=split.idle / per_s,
        idle_causes={name: ns / per_s for name, ns in split.causes.items()},
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
        reason = f"{replay.doubt(WIDEN_ABOVE)}: ranges are wider by this"
    return ReplayInfo(
        error=replay.error if replay.tested else None,
        predicted_s=seconds(replay.model_ns),
        measured_s=seconds(replay.measured_ns),
        trusted=replay.trusted,
        reason=reason,
    )
