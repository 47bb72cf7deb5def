"""How much a run differs from its like: a saving below that is no finding."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.run_noise import run_noise
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import Facts
from mfu_doctor.result.findings import FAILED, WITHHELD
from mfu_doctor.rules.contract import Finding
from tests.diagnosis.test_plan import drawn, halved
from tests.diagnosis.test_withheld import rule_that_finds


def noise_of(times: list[float]) -> float:
    return run_noise(drawn().steps, Facts(timed_steps_s=tuple(times)))


def test_many_steps_that_vary_tell_their_mean_well() -> None:
    draw = random.Random(1)
    times = [0.1 * (1 + 0.2 * draw.uniform(-1, 1)) for _ in range(900)]
    assert 0.002 < noise_of(times) < 0.02
    assert noise_of(times[:9]) > 0.05


def test_a_machine_that_becomes_slower_makes_the_mean_uncertain() -> None:
    times = np.linspace(0.1, 0.12, 900).tolist()
    assert noise_of(times) == pytest.approx(0.05, rel=0.1)


def test_evaluations_are_no_noise() -> None:
    assert noise_of([0.1, 0.1, 0.1, 1.7, 0.1] * 9) == pytest.approx(0)


def test_too_few_steps_tell_nothing() -> None:
    assert run_noise(drawn().steps, Facts(timed_steps_s=(0.1, 0.2))) == noise_of([]) < 0.01


@pytest.mark.parametrize(("spread", "status"), [(0.0, FAILED), (0.1, WITHHELD)])
def test_a_saving_that_nobody_could_see_is_no_finding(spread: float, status: str) -> None:
    """A fused optimizer saves 2 % of a healthy program, on a machine on which two runs differ by 5 %."""
    run = drawn()
    times = [run.steps.mean_ns / 1e9 * (1 + spread * (i % 2)) for i in range(5)]
    noisy = Run(run.recorded)
    noisy.__dict__["noise"] = run_noise(run.steps, Facts(timed_steps_s=tuple(times)))
    rules = [rule_that_finds("small", Finding(summary="slow", fix="pass", change=halved(run, 0.95)))]
    report = diagnose_run(noisy, rules).report
    told = report.diagnosis("small")
    assert told is not None
    assert told.status == status
    assert bool(report.plan.steps) == (status == FAILED)
    assert told.saving is not None
    assert (status == FAILED) == (told.reason is None)
