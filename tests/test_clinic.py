"""The clinic's recorded patients: a diagnosis that was right once stays right.

This guards against regressions and measures nothing: recordings that were diagnosed rightly are kept (two steps each). How often
the doctor is right is for the scoreboard to say.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.result.trial import BETTER, Trial, Tried
from mfu_doctor.trial.turns import Arm, Turns
from tests.trial.drawn import SKIPPED, Drawn

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "fixtures" / "clinic"
PATIENT = re.compile(r'PATIENT = Patient\("([a-z0-9-]+)", (?:"([a-z0-9-]+)"|None)')


def patients() -> dict[str, str | None]:
    """Name and planted rule of every patient, read from its source."""
    found = {}
    for path in sorted((ROOT / "examples" / "clinic" / "patients").glob("*.py")):
        match = PATIENT.search(path.read_text(encoding="utf-8"))
        assert match is not None, path
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.gz")), ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_patient_is_diagnosed(path: Path) -> None:
    rule = patients()[path.name.removesuffix(".pt.trace.json.gz")]
    report = diagnose(path)
    assert [d.rule for d in report.failed][:1] == ([rule] if rule else [])
    assert not report.with_status("crashed")


def test_there_are_patients_and_controls() -> None:
    known = patients()
    assert len(known) >= 16
    assert sum(rule is None for rule in known.values()) >= 3
    assert {path.name.removesuffix(".pt.trace.json.gz") for path in RECORDED.glob("*.gz")} == set(known)


def test_every_job_has_its_program() -> None:
    """What must be said about a job is in one file, what it does in another."""
    jobs = ROOT / "examples" / "clinic" / "jobs"
    told = re.findall(
        r'^    "([a-z-]+)": (?:Job\(|HEALTHY)', (jobs / "run.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    made = re.findall(r'"([a-z]+(?:-[a-z]+)*)": [a-z_]+[,}]', (jobs / "programs.py").read_text(encoding="utf-8"))
    assert len(told) >= 11
    assert sorted(told) == sorted(made)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """examples/clinic/run.py."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "clinic"))
    before = set(sys.modules)
    yield importlib.import_module("run")
    for name in set(sys.modules) - before:
        if name in ("run", "boards"):
            del sys.modules[name]


def test_the_fix_of_a_patient_is_measured_as_try_measures_one(runner: Any) -> None:
    """In turns with the fault, although it is another program."""
    fault, fix = Drawn({(): 0.15}), Drawn({(): 0.07})
    turns = Turns(runner.Sides(fault, fix), SKIPPED, lambda *_: None)
    arm = Arm((runner.the_fix("input-bound"),))
    turns.settle([arm])
    assert (turns.verdict(arm), arm.failure) == (BETTER, None)
    assert len(fault.ran) == len(fix.ran) + 1


def test_the_board_has_predicted_beside_measured(runner: Any, tmp_path: Path) -> None:
    shutil.copy(RECORDED / "slow-loader.pt.trace.json.gz", tmp_path / "slow-loader.trace.gz")
    fix = Tried(
        fixes=("the fix",),
        verdict=BETTER,
        saving_low_s=0.08,
        saving_s=0.082,
        saving_high_s=0.084,
        noise_s=0.002,
        runs=3,
    )
    trial = Trial(program="slow-loader", budget_s=60.0, unchanged_s=0.15, tried=(fix,))
    (tmp_path / "slow-loader.json").write_bytes(msgspec.json.encode(trial))
    case = runner.judged("slow-loader", "input-bound", tmp_path)
    predicted = diagnose(tmp_path / "slow-loader.trace.gz").failed[0].saving
    assert predicted is not None
    error = (0.15 - predicted.mid) / 0.068 - 1
    assert case.entry.error == pytest.approx(error)
    told = (
        f"| slow-loader | input-bound | first | 150.0 | {1e3 * (0.15 - predicted.mid):.1f} | 68.0 (66.0 to 70.0) | 2.0 "
    )
    assert runner.row("slow-loader", case) == f"{told}| {error:+.1%} | better |"
    assert "- planted fault first: 1 of 1" in runner.summary({"slow-loader": case})
