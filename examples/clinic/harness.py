"""How a patient of the clinic is run: one small training loop with a fault planted, or with its fix.

Every patient file builds the same loop twice, differing in one thing only. Run one alone:

    python examples/clinic/patients/slow_loader.py --fault
    python examples/clinic/patients/slow_loader.py --fix

or all of them, in turn, with a scoreboard (predicted against measured):

    python examples/clinic/run.py
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

import mfu_doctor

Batch = Any
Loop = tuple[Iterable[Batch], Callable[[Batch], None]]

SKIP, TIMED, WARMUP, ACTIVE = 6, 12, 2, 5
IN_TRIAL = "MFU_DOCTOR_TRIAL"  # a variable of the environment
MOST_STEPS = 100_000  # in a trial, which ends it much sooner
STEPS = SKIP + TIMED + WARMUP + ACTIVE + 2 + 4  # the shapes window and a few steps after it


@dataclass(frozen=True)
class Patient:
    """A training loop with one planted fault.

    Attributes:
        name: file name with dashes.
        expects: the rule that must come first, or None for a healthy control.
        build: makes (batches, step) with the fault (False) or with its fix (True).
        fp32: the fault is about number formats; the others run in bf16 where the device has it, so that fp32 is no second
            fault.
        absent: why this machine cannot have the fault, None where it can.
    """

    name: str
    expects: str | None
    build: Callable[[bool], Loop]
    fp32: bool = False
    absent: str | None = None


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(patient: Patient) -> Any:
    """The autocast that the patient's step runs under."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=has_bf16() and not patient.fp32)


def has_bf16(place: str | None = None) -> bool:
    """Whether a place ("cpu"; None: the device) has bf16 arithmetic; one without is a hundred times slower than in fp32."""
    if (place or device().type) == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(_cpu_flags().split()))  # the last on Arm


def _cpu_flags() -> str:
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8") if info.exists() else ""


def repeat(batch: Batch) -> Iterator[Batch]:
    """The same batch for ever: data loading that costs nothing."""
    while True:
        yield batch


def treat(patient: Patient, *, fixed: bool, trace: Path, active: int = ACTIVE) -> dict[str, Any]:
    """Run the loop under the doctor; returns what the scoreboard needs.

    `step_s` is the mean of the steps that ran without the profiler.
    """
    steps = training(patient, fixed)
    options = {"skip": SKIP, "timed": TIMED, "warmup": WARMUP, "active": active, "print_report": False}
    with mfu_doctor.profile(trace, **options) as doctor:
        for _ in islice(steps, STEPS):
            pass
    known = {"patient": patient.name, "expects": patient.expects, "fixed": fixed}
    return known | judged(doctor.report)


def training(patient: Patient, fixed: bool) -> Iterator[None]:
    """Build the loop, and return its steps; there is one more whenever one is asked for."""
    torch.manual_seed(0)
    batches, step = patient.build(fixed)

    def steps() -> Iterator[None]:
        while True:
            for batch in batches:
                with precision(patient):
                    step(batch)
                yield

    return steps()


def judged(report: mfu_doctor.Report) -> dict[str, Any]:
    """What the scoreboard needs of a report."""
    found = [
        {
            "rule": d.rule,
            "saving_s": [d.saving.low, d.saving.mid, d.saving.high] if d.saving else None,
            "summary": d.summary,
            "fix": d.fix,
        }
        for d in report.failed
    ]
    return {
        "step_s": report.step_time_s.stated,
        "mad_s": report.step_time_s.spread,
        "findings": found,
        "withheld": [d.rule for d in report.withheld],
        "replay_error": report.replay.error,
    }


def main(patient: Patient) -> None:
    """Command line of one patient."""
    parser = argparse.ArgumentParser(description=f"patient {patient.name}: expects {patient.expects or 'no finding'}")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--fault", action="store_true", help="with the fault (default)")
    group.add_argument("--fix", action="store_true", help="with its fix")
    parser.add_argument(
        "--trace", type=Path, default=Path(f"{patient.name}.pt.trace.json.gz"), help="where to write the trace"
    )
    parser.add_argument("--json", action="store_true", help="print what the scoreboard reads")
    parser.add_argument("--about", action="store_true", help="print what is planted, and run nothing")
    parser.add_argument("--active", type=int, default=ACTIVE, help="steps to record for times")
    given = parser.parse_args()
    if given.about:
        print(json.dumps({"expects": patient.expects, "absent": patient.absent}))
        return
    if os.environ.get(IN_TRIAL) == "1":  # it is measured from outside
        for _ in islice(training(patient, given.fix), MOST_STEPS):
            pass
        return
    if patient.absent is not None:
        print(json.dumps({"absent": patient.absent}) if given.json else f"{patient.name}: {patient.absent}")
        return
    result = treat(patient, fixed=given.fix, trace=given.trace, active=given.active)
    if given.json:
        print(json.dumps(result))
    else:
        print(mfu_doctor.diagnose(given.trace))


def spread(values: list[float]) -> float:
    """Median absolute deviation."""
    middle = median(values)
    return median(abs(v - middle) for v in values)
