"""No verb replaces an input: not through a directory, not through redirected standard input, and no other trace either."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.cli.check import CheckOptions, run_check
from mfu_doctor.cli.compare import CompareOptions, run_compare
from mfu_doctor.cli.report import ReportOptions, run_report
from mfu_doctor.errors import DoctorError
from tests.patience import LONGEST_S
from tests.timeline import Timeline
from tests.traces import ROOT


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """A directory with the traces of two ranks, the second one gzipped."""
    timeline = Timeline()
    for _ in range(4):
        with timeline.step():
            timeline.op("aten::mm", kernel=500)
    data = json.dumps(timeline.json()).encode()
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "rank0.pt.trace.json").write_bytes(data)
    (folder / "rank1.pt.trace.json.gz").write_bytes(gzip.compress(data))
    return folder


@pytest.mark.parametrize("name", ["rank0.pt.trace.json", "rank1.pt.trace.json.gz"])
@pytest.mark.parametrize("verb", ["report", "check", "compare", "annotate"])
def test_a_trace_of_the_directory_that_is_read_is_never_replaced(verb: str, name: str, ranks: Path) -> None:
    target, source = str(ranks / name), str(ranks)
    before = Path(target).read_bytes()
    calls: dict[str, Callable[[], object]] = {
        "report": lambda: run_report(source, ReportOptions(output=target, format="html")),
        "check": lambda: run_check([source], CheckOptions(output=target, format="json"), environ={}),
        "compare": lambda: run_compare(source, source, CompareOptions(output=target, format="json")),
        "annotate": lambda: annotate(source, target),
    }
    with pytest.raises(DoctorError, match="is an input file"):
        calls[verb]()
    assert Path(target).read_bytes() == before


@pytest.mark.parametrize("verb", ["report", "check"])
def test_a_trace_that_is_no_input_is_not_replaced_either(verb: str, ranks: Path) -> None:
    source, other = str(ranks / "rank0.pt.trace.json"), str(ranks / "rank1.pt.trace.json.gz")
    calls: dict[str, Callable[[], object]] = {
        "report": lambda: run_report(source, ReportOptions(output=other, format="html")),
        "check": lambda: run_check([source], CheckOptions(output=other, format="json"), environ={}),
    }
    with pytest.raises(DoctorError, match="is a trace, so it is not overwritten"):
        calls[verb]()


def test_the_file_behind_redirected_standard_input_is_not_replaced(ranks: Path) -> None:
    trace = ranks / "rank0.pt.trace.json"
    before = trace.read_bytes()
    with trace.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "mfu_doctor", "check", "-", "-o", str(trace)],
            stdin=stream,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=LONGEST_S,
        )
    assert done.returncode == 2
    assert "is an input file" in done.stderr
    assert trace.read_bytes() == before


def test_an_earlier_verdict_and_an_earlier_comparison_are_replaced(ranks: Path, tmp_path: Path) -> None:
    source = str(ranks)
    for _ in range(2):
        run_check([source], CheckOptions(output=str(tmp_path / "verdict.json")), environ={})
        run_compare(source, source, CompareOptions(output=str(tmp_path / "comparison.json")))
        run_report(source, ReportOptions(output=str(tmp_path / "report.json")))


def test_an_output_that_is_a_pipe_of_the_shell_is_written(ranks: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mfu_doctor", "report", str(ranks), "--format", "json", "-o", "/dev/stdout"],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tool"] == "mfu-doctor"


def test_a_damaged_report_is_named_among_several_inputs(ranks: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": 1, "tool": "mfu-doctor", ')
    with pytest.raises(DoctorError, match=r"broken\.json: not an mfu-doctor report"):
        run_check([str(ranks)], CheckOptions(baseline=(str(broken),)), environ={})
