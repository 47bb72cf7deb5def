"""One patient of the clinic in a process of its own: both sides timed in turns, then each under `profile()`.

    python -m on_gpu_parts.patient NAME FOLDER [--rehearse]

It prints a line of JSON as soon as each is known, for the second recording of a process may end it: the steps of both sides,
measured before any profiler was there; the report on the faulty one; the report on the mended one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness import judged, precision

import mfu_doctor
from on_gpu_parts.patients import PATIENTS
from on_gpu_parts.patients.loops import Patient, Step, device
from on_gpu_parts.work import wait


@dataclass(frozen=True)
class Plan:
    """How many steps: before each turn, in it, and of a recording."""

    turns: int
    before: int
    least: int
    most: int
    turn_s: float
    profile: dict[str, int]

    @property
    def recorded(self) -> int:
        """Steps of a recording, with the one for shapes and two after it."""
        return sum(self.profile.values()) + 3


ON_GPU = Plan(3, before=6, least=10, most=60, turn_s=0.4, profile={"skip": 5, "timed": 10, "warmup": 2, "active": 4})
ON_CPU = Plan(1, before=1, least=2, most=2, turn_s=0.0, profile={"skip": 1, "timed": 3, "warmup": 1, "active": 2})


class Side:
    """A patient with its fault or with its fix, ready to train on."""

    def __init__(self, patient: Patient, *, fixed: bool) -> None:
        torch.manual_seed(0)
        self.patient = patient
        batches, step = patient.build(fixed)
        self._batches: Iterator[Any] = without_end(batches)
        self._step: Step = step

    def train(self, steps: int) -> Iterator[None]:
        """So many steps, one at a time."""
        for batch in islice(self._batches, steps):
            with precision(self.patient):
                self._step(batch)
            yield

    def turn(self, plan: Plan) -> float:
        """Seconds of a step, without anybody watching."""
        one = self._seconds(plan.before) / plan.before
        steps = min(max(round(plan.turn_s / max(one, 1e-6)), plan.least), plan.most)
        return self._seconds(steps) / steps

    def recorded(self, plan: Plan, trace: Path) -> dict[str, Any]:
        """What the report says."""
        with mfu_doctor.profile(trace, print_report=False, **plan.profile) as doctor:
            for _ in self.train(plan.recorded):
                if self.patient.marks:
                    doctor.step()
        report = doctor.report
        found = judged(report)
        known = {"kernels": len(report.kernels), "mfu": report.mfu.value, "device": report.device.name}
        told = {"caveats": [caveat.text for caveat in report.caveats], "report_step_s": found.pop("step_s")}
        return found | known | told

    def _seconds(self, steps: int) -> float:
        wait(device())
        begin = time.perf_counter()
        for _ in self.train(steps):
            pass
        wait(device())
        return time.perf_counter() - begin


def without_end(batches: Any) -> Iterator[Any]:
    """A loader begins again, and its workers go on between turns."""
    while True:
        yield from batches


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=tuple(PATIENTS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    patient, plan = PATIENTS[given.name], ON_CPU if given.rehearse else ON_GPU
    if patient.absent is not None:
        tell("absent", patient.absent)
        return
    sides = {"faulty": Side(patient, fixed=False), "mended": Side(patient, fixed=True)}
    turns: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(plan.turns):
        for name in sorted(sides, reverse=turn % 2 == 1):
            turns[name].append(sides[name].turn(plan))
    tell("steps", {name: {"step_s": median(seconds), "turns_s": seconds} for name, seconds in turns.items()})
    for name, side in sides.items():
        tell(name, side.recorded(plan, given.folder / f"{given.name}-{name}.pt.trace.json.gz"))


def tell(what: str, told: Any) -> None:
    """A line that the other process reads, after whatever a library has printed."""
    print(json.dumps({"on_gpu": what, "told": told}, default=str), flush=True)


if __name__ == "__main__":
    main()
