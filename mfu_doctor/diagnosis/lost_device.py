"""The report of a GPU run whose trace has nothing of the GPU: no breakdown, no rates, no advice on the training.

What is left is what is missing, as the only finding, and the steps that profile() timed without the profiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.lost_device import LostDevice
from mfu_doctor.diagnosis.about_run import run_info
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.diagnosis.rule_runner import LOST_DEVICE, examine
from mfu_doctor.diagnosis.statuses import unpriced_diagnosis
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import DeviceInfo, Mfu
from mfu_doctor.result.step import TIMED, step_time_of
from mfu_doctor.rules.contract import Rule
from mfu_doctor.version import __version__


def report_without_device(run: Run, lost: LostDevice, rules: Sequence[Rule]) -> Report:
    """What can be said about a run whose GPU is not in the trace.

    Args:
        run: the run.
        lost: what is missing.
        rules: the rules to ask; only those about the file itself can answer.
    """
    said = tuple(unpriced_diagnosis(e) for e in examine(run, rules))
    finding = tuple(replace(d, caution=False) for d in said if d.rule == LOST_DEVICE)
    trace, peaks, timed = run.trace, run.peaks, run.timed_steps_s
    world = run.facts.world_size if run.facts is not None else None
    report = Report(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run_info(run),
        device=DeviceInfo(
            name=peaks.name,
            kind="gpu",
            count=world or trace.distributed.world_size or 1,
            sms=peaks.sms,
            peaks=dict(peaks.dense),
            peak_reason=peaks.reason,
            unseen=lost.reason,
        ),
        step_time_s=step_time_of(timed, TIMED) if timed else None,
        mfu=Mfu(reason=lost.reason),
        diagnoses=(*finding, *(d for d in said if d.rule != LOST_DEVICE)),
        samples=run.facts.samples if run.facts is not None else (),
        problems=tuple(p.text for p in trace.problems),
        cautions=run.facts.notes if run.facts is not None else (),
    )
    return concluded(report)
