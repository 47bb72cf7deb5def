"""One pipeline and one way to read an input: all verbs and the API agree about a file, and settings hold."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

import mfu_doctor
from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.annotation.perfetto import PID
from mfu_doctor.api.report import Report
from mfu_doctor.cli.check import CheckOptions, run_check
from mfu_doctor.cli.compare import CompareOptions, run_compare
from mfu_doctor.cli.report import ReportOptions, run_report
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.load import load_input
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.reading import read_trace
from mfu_doctor.render.words.wording import time_saved
from mfu_doctor.result import report as result
from tests.timeline import Timeline
from tests.traces import ROOT

LIVE = ROOT / "tests" / "fixtures" / "clinic" / "few-workers.pt.trace.json.gz"  # times of un-profiled steps are in it
PEAK = 200e12  # another than the table's for the drawn A100


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A drawn run that waits for its loader."""
    timeline = Timeline()
    for _ in range(5):
        with timeline.step():
            timeline.fetch(4000)
            for _ in range(20):
                timeline.op("aten::mm", kernel=60, dims=[[512, 512], [512, 512]], types=["c10::BFloat16"] * 2)
            timeline.item()
    folder = tmp_path / "runs"
    folder.mkdir()
    path = folder / "run.pt.trace.json"
    path.write_text(json.dumps(timeline.json()), encoding="utf-8")
    return path


def savings(report: result.Report) -> dict[str, tuple[float, float, float]]:
    return {d.rule: (d.saving.low, d.saving.mid, d.saving.high) for d in report.failed if d.saving is not None}


def as_json(source: str) -> Report:
    return Report.from_json(run_report(source, ReportOptions(format="json")).text)


@pytest.mark.parametrize("live", [False, True], ids=["foreign trace", "live run"])
def test_every_verb_and_the_api_state_the_same_savings_to_the_last_digit(
    live: bool, trace: Path, tmp_path: Path
) -> None:
    path = LIVE if live else trace
    report = as_json(str(path))
    said = savings(report)
    assert said
    assert savings(mfu_doctor.diagnose(path)) == said
    assert savings(mfu_doctor.diagnose(read_trace(path))) == said
    assert savings(Report.load(path)) == said

    text, _ = run_check([str(path)], CheckOptions(format="json"), environ={}, folder=tmp_path)
    checks = {c["name"]: c["saving"] for c in json.loads(text)["checks"] if c["saving"] is not None}
    assert {name: (s["low"], s["mid"], s["high"]) for name, s in checks.items()} == said

    marked = tmp_path / "marked.json"
    annotate(path, marked)
    events = [e for e in json.loads(marked.read_bytes())["traceEvents"] if e.get("pid") == PID and "args" in e]
    told = {e["name"]: e["args"]["saves per step"] for e in events if "saves per step" in e["args"]}
    assert set(told) <= set(said)
    assert told
    for rule, shown in told.items():
        found = report.diagnosis(rule)
        assert found is not None
        assert found.saving is not None
        assert shown == time_saved(found.saving)

    best = report.failed[0].rule
    old = tmp_path / "faster.json"
    assert report.step_time_s is not None
    faster = replace(report.step_time_s, median=report.step_time_s.median / 2, mad=0.0)
    Report.of(replace(report, step_time_s=faster)).save(old)
    text, _ = run_compare(str(path), str(old), CompareOptions(format="json", fixes=(best,)))
    prediction = json.loads(text)["prediction"]
    step = report.step_time_s.mean or report.step_time_s.median
    assert prediction["low_s"] == step - said[best][2]
    assert prediction["high_s"] == step - said[best][0]


Read = Callable[[str], float | None]


def by_check(source: str) -> float | None:
    text, _ = run_check([source], CheckOptions(format="json", budgets=("mfu=0%",)), environ={}, folder=Path.cwd())
    value: float = next(c["value"] for c in json.loads(text)["checks"] if c["name"] == "mfu")
    return value


def by_baseline(source: str) -> float | None:
    baseline = Report.from_json(run_report(source, ReportOptions(format="json", baseline=source)).text).baseline
    return baseline.mfu if baseline is not None else None


def by_compare(source: str) -> float | None:
    text, _ = run_compare(source, source, CompareOptions(format="json"))
    value: float = json.loads(text)["mfu"]["before"]
    return value


READERS: dict[str, Read] = {
    "report": lambda source: as_json(source).mfu.value,
    "report --baseline": by_baseline,
    "check": by_check,
    "compare": by_compare,
    "diagnose": lambda source: mfu_doctor.diagnose(source).mfu.value,
    "Report.load": lambda source: Report.load(source).mfu.value,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["trace", "directory", "saved.json", "saved.html"])
def test_the_peak_in_pyproject_holds_wherever_a_run_can_be_named(
    reader: str, kind: str, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mfu_doctor.diagnose(trace)
    source = {"trace": trace, "directory": trace.parent}.get(kind, tmp_path / kind)
    if kind.startswith("saved"):
        table.save(source)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(f"[tool.mfu-doctor]\npeak-flops = {PEAK}\n")
    monkeypatch.chdir(project)
    assert table.mfu.value is not None
    assert table.device.peak_flops is not None
    assert READERS[reader](str(source)) == pytest.approx(table.mfu.value * table.device.peak_flops / PEAK, rel=1e-12)


def test_an_option_wins_over_the_file_and_what_a_run_was_recorded_with_too(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.loads(trace.read_bytes())
    data["mfu_doctor"] = {"given": {"peak_flops": 100e12, "model_flops": None}}
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps(data))
    (tmp_path / "pyproject.toml").write_text(f"[tool.mfu-doctor]\npeak-flops = {PEAK}\n")
    monkeypatch.chdir(tmp_path)
    assert mfu_doctor.diagnose(trace, peak_flops=50e12).device.peak_flops == 50e12
    assert mfu_doctor.diagnose(recorded).device.peak_flops == 100e12
    assert mfu_doctor.diagnose(recorded, peak_flops=50e12).device.peak_flops == 50e12


def test_a_restated_report_is_that_of_the_trace_where_it_can_be_and_says_the_rest(trace: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    mfu_doctor.diagnose(trace).save(saved)
    restated, anew = Report.load(saved, peak_flops=PEAK), mfu_doctor.diagnose(trace, peak_flops=PEAK)
    assert restated.mfu.value == pytest.approx(anew.mfu.value, rel=1e-12)
    assert restated.mfu.hfu == pytest.approx(anew.mfu.hfu, rel=1e-12)
    assert restated.device == anew.device
    assert savings(restated) == savings(anew)
    for mine, theirs in zip(restated.failed, anew.failed, strict=True):
        assert mine.saving is not None
        assert theirs.saving is not None
        assert mine.saving.mfu_high == pytest.approx(theirs.saving.mfu_high, rel=1e-9)
    assert restated.waterfall == ()
    assert "recalculated" in restated.cautions[-1]
    assert Report.load(saved, peak_flops=Report.load(saved).device.peak_flops) == Report.load(
        saved
    )  # what it says already


def test_restated_flops_of_a_step_leave_only_what_they_tell(trace: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    mfu_doctor.diagnose(trace).save(saved)
    restated, anew = Report.load(saved, model_flops=1e9), mfu_doctor.diagnose(trace, model_flops=1e9)
    assert restated.mfu.value == pytest.approx(anew.mfu.value, rel=1e-12)
    assert (restated.mfu.method, restated.mfu.hfu, restated.mfu.coverage) == ("given", None, None)


def test_a_stream_and_bytes_of_a_trace_are_read_like_its_file(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO(gzip.compress(trace.read_bytes()))
    assert savings(mfu_doctor.diagnose(packed)) == savings(mfu_doctor.diagnose(trace))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(trace.read_bytes())))
    piped = load_input("-").report
    assert savings(piped) == savings(mfu_doctor.diagnose(trace))
    assert piped.run.trace == "stdin"


def test_a_directory_says_which_trace_was_taken(trace: Path) -> None:
    loaded = load_input(trace.parent)
    assert loaded.notes == (f"reporting on {trace}",)
    assert loaded.report.run.trace == trace.name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"peak_flops": 989.5}, "not a peak in FLOP/s: write 989.5e12"),
        ({"peak_flops": float("nan")}, "not a peak"),
        ({"model_flops": -1.0}, "not a valid number of FLOP"),
        ({"steps": (3, 3)}, "not a range"),
        ({"select": ("input-bond",)}, "did you mean input-bound"),
    ],
)
def test_the_api_refuses_what_the_command_line_refuses(wrong: dict[str, object], message: str, trace: Path) -> None:
    with pytest.raises(DoctorError, match=message):
        mfu_doctor.diagnose(trace, **wrong)  # type: ignore[arg-type]


def test_what_needs_the_events_is_refused_of_a_saved_report(trace: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    mfu_doctor.diagnose(trace).save(saved)
    with pytest.raises(DoctorError, match="cannot be used with --steps, --ignore: pass the trace"):
        load_input(saved, Overrides(steps=(1, 2), ignore=("input-bound",)))


@pytest.mark.parametrize(
    ("name", "begins"), [("x.json", "{"), ("x.html", "<!doctype html>"), ("x.md", "#"), ("x.txt", "mfu-doctor")]
)
def test_save_writes_the_format_that_the_name_asks_for(name: str, begins: str, trace: Path, tmp_path: Path) -> None:
    mfu_doctor.diagnose(trace).save(tmp_path / name)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith(begins)


def test_a_saved_page_and_a_saved_report_come_back_whole(trace: Path, tmp_path: Path) -> None:
    report = mfu_doctor.diagnose(trace)
    for name in ("x.json", "x.html"):
        report.save(tmp_path / name)
        assert Report.load(tmp_path / name) == report


def test_save_refuses_a_name_without_a_format(trace: Path, tmp_path: Path) -> None:
    with pytest.raises(DoctorError, match="no output format is known"):
        mfu_doctor.diagnose(trace).save(tmp_path / "x")
    assert not (tmp_path / "x").exists()
