"""A name that no file can have (a NUL character, half of a surrogate pair) is one error of ours, wherever a path is given."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mfu_doctor import DoctorError, JobReport, Report, diagnose, diagnose_job
from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.files import replacing, write_file
from mfu_doctor.inputs.protect import protect
from tests.traces import ROOT

TRACE = ROOT / "tests" / "fixtures" / "torch213_cpu.json.gz"
NAMES = ("a\0b.json", "a\0b.html", "a\0b/*.json", "a\0b/", "a\ud800.json", "a\ud800.html", "a\ud800/*.json")
USES: dict[str, Callable[[str], object]] = {
    "diagnose": diagnose,
    "diagnose_job": diagnose_job,
    "diagnose_job of two": lambda name: diagnose_job([name, f"b{name}"]),
    "Report.load": Report.load,
    "JobReport.load": JobReport.load,
    "annotate": lambda name: annotate(name, "marked.json"),
    "annotate to": lambda name: annotate(TRACE, name),
    "write_file": lambda name: write_file(name, "text"),
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("use", USES)
def test_it_is_an_error_of_ours(use: str, name: str) -> None:
    with pytest.raises(DoctorError) as caught:
        USES[use](name)
    assert caught.value.remedy


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_output_of_that_name_replaces_no_input(name: str) -> None:
    protect(name, [TRACE, name])  # whoever writes it tells
    with pytest.raises(OSError, match="no file can have this name"), replacing(os.fspath(name)):
        pytest.fail("it was opened")


def test_a_saved_report_tells_it_in_one_sentence() -> None:
    with pytest.raises(DoctorError, match=r"cannot be written \(no file can have this name\): check the path$"):
        diagnose(TRACE).save("a\0b.json")
