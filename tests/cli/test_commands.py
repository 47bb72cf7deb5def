"""The verbs check and compare on files: exit codes, formats, summary, settings and options, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.cli.check import CheckOptions, run_check
from mfu_doctor.cli.compare import CompareOptions, run_compare
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.load import load_input
from mfu_doctor.render import names
from tests.runs import finding, report_of, steady
from tests.traces import real_trace


def saved(folder: Path, name: str, report: Report) -> str:
    report.save(folder / name)
    return str(folder / name)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return saved(tmp_path, "run.json", report_of(steady(0.44), diagnoses=(finding(),)))


@pytest.fixture
def base(tmp_path: Path) -> str:
    return saved(tmp_path, "base.json", report_of(steady(0.4)))


def check(traces: list[str], folder: Path, **options: object) -> tuple[str, int]:
    environ = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    return run_check(traces, CheckOptions(**options), environ=environ, folder=folder)  # type: ignore[arg-type]


def test_exit_codes(run: str, base: str, tmp_path: Path) -> None:
    assert check([run], tmp_path)[1] == 0  # a finding only warns
    assert check([run], tmp_path, baseline=(base,))[1] == 1  # 10 % slower than +5 %
    assert check([run], tmp_path, baseline=(base,), exit_zero=True)[1] == 0
    assert check([run], tmp_path, levels=("IN=error",))[1] == 1
    with pytest.raises(DoctorError) as caught:
        check([str(tmp_path / "absent.json")], tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("form", names("verdict"))
def test_every_format_is_text(run: str, base: str, tmp_path: Path, form: str) -> None:
    text, _ = check([run], tmp_path, baseline=(base,), format=form)
    assert "step-time" in text or "step time" in text
    assert text.endswith("\n")


def test_an_empty_or_broken_file_never_passes(tmp_path: Path) -> None:
    for name, text in (
        ("empty.json", ""),
        ("list.json", "[]"),
        ("none.json", '{"traceEvents": []}'),
        ("x.html", "<p>"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DoctorError) as caught:
            check([str(tmp_path / name)], tmp_path)
        assert caught.value.exit_code == 2


def test_the_output_file_picks_its_format(run: str, tmp_path: Path) -> None:
    text, _ = check([run], tmp_path, output=str(tmp_path / "out.xml"))
    assert text == ""
    assert (tmp_path / "out.xml").read_text().startswith("<?xml")
    with pytest.raises(DoctorError, match="no output format"):
        check([run], tmp_path, output=str(tmp_path / "out.pdf"))


def test_the_summary_is_appended_in_a_job_and_an_error_outside(run: str, tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    check([run], tmp_path, summary=True)
    assert (tmp_path / "summary.md").read_text().startswith("before\n### mfu-doctor: passed")
    with pytest.raises(DoctorError, match="GITHUB_STEP_SUMMARY"):
        run_check([run], CheckOptions(summary=True), environ={}, folder=tmp_path)


def test_the_file_sets_budgets_and_options_win(run: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.mfu-doctor.check]\nstep-time = '400ms'\n")
    assert check([run], tmp_path)[1] == 1
    assert check([run], tmp_path, budgets=("step-time=500ms",))[1] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "junti"}, "did you mean junit"),
        ({"budgets": ("mfu",)}, "NAME=VALUE"),
        ({"budgets": ("mfo=30%",)}, "did you mean mfu"),
        ({"levels": ("input-bond=error",)}, "did you mean input-bound"),
    ],
)
def test_a_wrong_option_is_an_error_with_a_remedy(
    run: str, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DoctorError, match=message):
        check([run], tmp_path, **options)


def test_compare_reads_two_reports_and_writes_any_format(run: str, base: str, tmp_path: Path) -> None:
    text, code = run_compare(run, base, CompareOptions())
    assert code == 0
    assert "-9.1 %" in text
    assert run_compare(run, base, CompareOptions(output=str(tmp_path / "c.json"))) == ("", 0)
    assert json.loads((tmp_path / "c.json").read_text())["step"]["real"] is True
    with pytest.raises(DoctorError, match="no output format"):
        run_compare(run, base, CompareOptions(output="c.pdf"))


def test_compare_refuses_unlike_runs(run: str, tmp_path: Path) -> None:
    other = report_of(steady(0.4))
    path = saved(tmp_path, "other.json", replace(other, device=replace(other.device, name="A100")))
    with pytest.raises(DoctorError, match="--allow-different device"):
        run_compare(run, path, CompareOptions())
    assert run_compare(run, path, CompareOptions(allow_different=("device",)))[1] == 0


def test_a_report_is_read_back_from_its_page(run: str, tmp_path: Path) -> None:
    from mfu_doctor.render.html.html import render_html

    (tmp_path / "page.html").write_text(render_html(Report.load(run)), encoding="utf-8")
    assert load_input(str(tmp_path / "page.html")).report.run.trace == "run.json.gz"


def test_the_public_pair_of_loader_traces_is_a_gain_that_compare_sees() -> None:
    before, after = (str(real_trace(f"v100_resnet50_workers{n}.pt.trace.json.gz")) for n in (0, 4))
    text, _ = run_compare(before, after, CompareOptions(format="json"))
    found = json.loads(text)
    assert found["step"]["after"] < 0.8 * found["step"]["before"]
    assert "input-bound" in found["fixed"]
