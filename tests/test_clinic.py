"""The clinic's recorded patients: a diagnosis that was right once stays right.

This guards against regressions and measures nothing: recordings that were diagnosed rightly are kept (two steps each). How often
the doctor is right is for the scoreboard to say.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mfu_doctor.api.diagnose import diagnose

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
