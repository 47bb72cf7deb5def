"""Reports of imagined runs, made from their step times: what tests of the gate and of compare judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.result.findings import Diagnosis, Saving
from mfu_doctor.result.run import DeviceInfo, Mfu, RunInfo
from mfu_doctor.result.step import TIMED, Breakdown, StepRow, step_time_of

FLOPS, PEAK = 1.28e14, 989.5e12  # FLOP per step, FLOP/s


def split_of(step: float, loading: float = 0.2, communication: float = 0.1) -> Breakdown:
    """A step that loads data and communicates for these shares, computes for most of the rest and idles for a tenth."""
    idle, copies = 0.1 * step, 0.0
    compute = step * (1 - loading - communication) - idle
    return Breakdown(
        step_s=step,
        compute=compute,
        communication=communication * step,
        memory_copy=copies,
        data_loading=loading * step,
        idle=idle,
        idle_causes={"launch": 0.07 * step, "sync": 0.03 * step},
    )


def report_of(times: Sequence[float], *, trace: str = "run.json.gz", loading: float = 0.2, **changes: Any) -> Report:
    """A report of a run on an H100 whose timed steps took so many seconds; `changes` replace fields of the report."""
    time = step_time_of(times, TIMED)
    report = Report(
        run=RunInfo(trace=trace, site="train.py:41", world_size=1, versions={"torch": "2.13.0"}, steps=len(times)),
        device=DeviceInfo(name="NVIDIA H100 80GB HBM3", dtype="bfloat16", peak_flops=PEAK),
        step_time_s=time,
        mfu=Mfu(value=FLOPS / time.stated / PEAK, model_flops=FLOPS, method="counted", coverage=1.0),
        breakdown=split_of(time.stated, loading),
        steps=tuple(StepRow(number=i, start_s=float(i), split=split_of(t, loading)) for i, t in enumerate(times)),
        structure={"syncs": 0.0, "launches": 9412.0, "loader_workers": 4.0},
    )
    return concluded(replace(report, **changes))


def steady(median: float, spread: float = 0.003, n: int = 5) -> list[float]:
    """`n` (odd) step times around a median whose median absolute deviation is about `spread` of it."""
    return [median * (1 + 2 * spread * i / (n // 2)) for i in range(-(n // 2), n // 2 + 1)]


def finding(rule: str = "input-bound", code: str = "IN001", **changes: Any) -> Diagnosis:
    """A failed rule that saves 74 to 88 ms."""
    found = Diagnosis(
        rule=rule,
        code=code,
        status="failed",
        summary="GPU waits for data 21 % of the step",
        fix="DataLoader(num_workers=12, pin_memory=True)",
        saving=Saving(low=0.074, mid=0.081, high=0.088, mfu_low=0.38, mfu_high=0.40),
    )
    return replace(found, **changes)
