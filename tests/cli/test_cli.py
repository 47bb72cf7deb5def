"""The command line as a user meets it: exit codes, streams, suffixes, errors in one line, a light start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mfu_doctor.cli.explain import run_explain, sections
from mfu_doctor.cli.main import app, main, verbs_of
from mfu_doctor.cli.report import ReportOptions, run_report
from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.overrides import parse_steps
from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.contract import HEADINGS
from tests.goldens import FOLDER
from tests.patience import LONGEST_S
from tests.traces import ROOT

TRACE = ROOT / "tests" / "fixtures" / "torch213_cpu.json.gz"


def call(*words: str | Path, cwd: Path | None = None, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m mfu_doctor` without what the calling terminal may have set."""
    environ = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")}
    command = [sys.executable, "-m", "mfu_doctor", *map(str, words)]
    environ["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=cwd, env=environ, input=stdin, capture_output=True, timeout=LONGEST_S)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def imported(code: str) -> set[str]:
    """Modules loaded after running some code in a fresh interpreter, also if the code ends it."""
    code = f"import atexit, sys; atexit.register(lambda: print('MODULES', *sys.modules))\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("MODULES")[2].split()  # before it stands what the code printed
    assert "sys" in loaded
    return set(loaded)


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = imported("import mfu_doctor")
    assert not loaded & {"torch", "pandas", "numpy", "rich", "typer", "jinja2", "pynvml"}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['mfu-doctor', '--help']\n"
    code += "from mfu_doctor.cli.main import main\ntry: main()\nexcept SystemExit: pass"
    # Old versions of typer look whether there is a rich, which costs nothing; rich.console is what costs.
    assert not imported(code) & {"torch", "pandas", "numpy", "rich.console", "jinja2", "pynvml"}


def test_a_trace_is_read_before_the_analysis_is_loaded() -> None:
    # So that a thread can load it while the trace is read.
    code = "import mfu_doctor.cli.report\nfrom mfu_doctor.inputs.settings import settings_here\nsettings_here()\n"
    code += "from mfu_doctor.reading import read_trace\n"
    assert not imported(code) & {
        "mfu_doctor.analysis.run",
        "mfu_doctor.rules.catalogue",
        "mfu_doctor.diagnosis.diagnose",
    }


def test_reading_a_trace_loads_neither_torch_nor_pandas() -> None:
    code = (
        f"import sys; sys.argv = ['mfu-doctor', 'report', {str(TRACE)!r}]\nfrom mfu_doctor.cli.main import main\nmain()"
    )
    assert not imported(code) & {"torch", "pandas", "pynvml"}


def test_a_piped_report_is_plain_and_standard_error_is_silent() -> None:
    done = call("report", TRACE)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("mfu-doctor ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "missing.json"], "missing.json does not exist: check the path"),
        (["report", str(ROOT / "pyproject.toml")], "error: "),
        (["report", str(TRACE), "--format", "pdf"], "unknown format 'pdf' for a report: use one of terminal, markdown"),
        (["report", str(TRACE), "-o", "x.pdf"], "no output format is known for the file name"),
        (["report", str(TRACE), "--steps", "5:2"], "write A:B"),
        (["report", str(TRACE), "--peak-flops", "989.5"], "write 989.5e12"),
        (["report", str(TRACE), "--model-flops", "-1"], "write 1.28e14"),
        (["report", str(TRACE), "--select", "input-bond"], "did you mean input-bound?"),
        (["explain", "hosts-bound"], "did you mean host-bound?"),
        (["run", "--skp", "3", "train.py"], "unknown option --skp"),
        (["run", "-m"], "-m needs the name of a module"),
        (["check", "missing.json"], "missing.json"),
        (["report", "--no-such-option"], "no such option: --no-such-option: see "),
        (["report", str(TRACE), "--outpt", "x"], "no such option: --outpt: did you mean --output?"),
        (["report", str(TRACE), "--rank", "first"], "invalid value for '--rank': "),
        (["report", str(TRACE), "--steps"], "option '--steps' requires an argument: see "),
        (["report"], "missing argument 'TRACE...': see "),
        (["compare", "a", "b", "c"], "unexpected extra argument"),
        (["run", "--skip", "-1", "train.py"], "invalid value for '--skip': "),
        (["no-such-verb"], "no such command 'no-such-verb': see "),
        (["--qqq"], "no such option: --qqq: see "),
    ],
)
def test_an_error_is_one_line_with_a_remedy_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mfu-doctor", *words])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_wrong_word_names_the_help_of_its_verb() -> None:
    done = call("check")
    assert done.returncode == 2
    assert re.fullmatch(r"error: missing argument 'TRACE...': see .*mfu_doctor check --help\n", done.stderr)


def test_without_a_word_the_help_is_shown() -> None:
    done = call()
    assert done.returncode == 2
    assert "Commands:\n" in done.stdout + done.stderr
    assert "error: " not in done.stderr


def test_a_saved_report_is_shown_again(tmp_path: Path) -> None:
    """JSON and HTML both come back as the same terminal report."""
    first = run_report(str(TRACE), ReportOptions())
    for name in ("a.json", "a.html"):
        path = tmp_path / name
        run_report(str(TRACE), ReportOptions(output=str(path)))
        again = run_report(str(path), ReportOptions())
        assert again.text.replace(str(path), str(TRACE)).splitlines()[:12] == first.text.splitlines()[:12]


def test_a_saved_report_cannot_be_judged_anew() -> None:
    with pytest.raises(DoctorError, match=r"saved report, which cannot be used with --steps: pass the trace"):
        run_report(str(FOLDER / "healthy.json"), ReportOptions(steps="0:1"))


def test_standard_input_is_a_trace() -> None:
    done = call("report", "-", stdin=TRACE.read_bytes())
    assert done.returncode == 0
    assert "Step time breakdown" in done.stdout


def test_a_folder_in_the_layout_of_tensorboard(tmp_path: Path) -> None:
    for span in (1, 2):
        (tmp_path / f"host_1.{span}.pt.trace.json.gz").write_bytes(TRACE.read_bytes())
    written = run_report(str(tmp_path), ReportOptions())
    assert written.text.startswith("mfu-doctor ")
    assert "host_1.2.pt.trace.json.gz" in written.notes[0]
    assert "host_1.1.pt.trace.json.gz" in written.notes[1]


def test_output_goes_to_the_file_and_only_there(tmp_path: Path) -> None:
    done = call("report", TRACE, "-o", tmp_path / "report.json")
    assert (done.returncode, done.stdout) == (0, "")
    assert "wrote" in done.stderr
    assert json.loads((tmp_path / "report.json").read_bytes())["tool"] == "mfu-doctor"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_trace_is_never_overwritten_by_its_report(tmp_path: Path) -> None:
    trace = tmp_path / "run.json"
    trace.write_bytes((ROOT / "tests" / "fixtures" / "kineto_2021.json").read_bytes())
    other = tmp_path / "other.json"
    other.write_bytes(trace.read_bytes())
    for target, message in ((trace, "is an input file"), (other, "is a trace, so it is not overwritten")):
        with pytest.raises(DoctorError, match=message):
            run_report(str(trace), ReportOptions(output=str(target)))


def test_a_baseline_shows_the_change() -> None:
    written = run_report(str(FOLDER / "loader_bound.json"), ReportOptions(baseline=str(FOLDER / "healthy.json")))
    assert "step 324 ms -> 412 ms (+27.1 %)" in written.text


def test_numbers_come_from_pyproject_and_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.mfu-doctor]\npeak-flops = 1e12\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = json.loads(run_report(str(TRACE), ReportOptions(format="json")).text)
    assert data["device"]["peak_flops"] == 1e12
    data = json.loads(run_report(str(TRACE), ReportOptions(format="json", peak_flops=2e12)).text)
    assert data["device"]["peak_flops"] == 2e12


def test_ranges_of_steps() -> None:
    assert parse_steps("1:4") == (1, 4)
    assert parse_steps(None) is None


def test_explain_lists_every_rule_and_shows_every_heading() -> None:
    listing = run_explain(None)
    assert all(rule.name in listing and rule.code in listing for rule in RULES)
    for rule in RULES:
        text = run_explain(rule.name)
        assert all(f"\n{heading}\n" in text for heading in HEADINGS), rule.name
    assert run_explain("IN001") == run_explain("input-bound")
    assert "input-bound" in run_explain("IN")
    assert "host-bound" not in run_explain("IN")


SAVED = str(Path(__file__).parent.parent / "golden" / "loader_bound.json")


def test_explain_with_a_file_begins_with_what_the_rule_found_in_it() -> None:
    """A reader of "details of this finding" was once shown the rule's text, and not one number of the finding."""
    text = run_explain("input-bound", source=SAVED)
    finding, _, document = text.partition("\n\ninput-bound (IN001)")
    assert "1 input-bound" in finding
    assert "74-88" in finding or "81 ms" in finding
    assert "DataLoader(" in finding
    assert "What it measures" in document
    assert "no finding" not in finding
    passed = run_explain("pageable-copy", source=SAVED)
    assert passed.lstrip().startswith("In run.json.gz: ")


def test_explain_of_a_file_alone_says_what_shows_its_findings() -> None:
    with pytest.raises(DoctorError, match="explain takes a rule first") as raised:
        run_explain(SAVED)
    assert f"mfu-doctor report {SAVED} -v" in str(raised.value)
    with pytest.raises(DoctorError, match="cannot be shown as json"):
        run_explain("input-bound", "json", SAVED)


def test_explain_finds_a_rule_by_what_others_call_it() -> None:
    assert run_explain("no_sync") == run_explain("sync-every-microbatch")
    assert "prefetch-factor" in run_explain("slow-sample")


def test_explain_lists_a_family_and_says_what_a_rule_needs() -> None:
    assert run_explain("input") == run_explain("IN")
    assert "input-bound" in run_explain("input")
    assert "shapes: sizes of operators' arguments" in run_explain("wide-batch")


def test_explain_as_data_and_markdown() -> None:
    (data,) = json.loads(run_explain("input-bound", "json"))
    assert data["code"] == "IN001"
    assert data["family"] == "input"
    assert set(data["sections"]) == set(HEADINGS)
    assert "### How to fix" in run_explain("input-bound", "markdown")


def test_headings_split_a_docstring() -> None:
    parts = sections("A fault.\n\nWhat it measures\n    One.\n\n    Two.\n\nHow to fix\n    x = 1\n        y\n")
    assert parts == {"": "A fault.", "What it measures": "One.\n\nTwo.", "How to fix": "x = 1\n    y"}


def test_selfcheck_never_fails_and_says_what_a_bug_report_needs() -> None:
    done = call("selfcheck")
    assert done.returncode == 0
    for word in ("mfu-doctor", "python", "compiled core", "torch", "NVML", "terminal"):
        assert word in done.stdout


def test_everything_after_the_script_belongs_to_it(tmp_path: Path) -> None:
    """Options that look like ours, `--`, and the exit status all reach the script and come back."""
    pytest.importorskip("torch", reason="torch is not installed")  # nothing is run that cannot be recorded
    script = tmp_path / "train.py"
    script.write_text("import sys, json; print(json.dumps(sys.argv[1:])); sys.exit(7)", encoding="utf-8")
    words = ["-o", "x", "--skip", "9", "-v", "--help", "--", "-m", "mod"]
    done = call("run", "-q", "-o", tmp_path / "t.pt.trace.json.gz", script, *words, cwd=tmp_path)
    assert json.loads(done.stdout.splitlines()[0]) == words
    assert done.returncode == 7


def test_a_program_begins_near_the_bottom_of_the_stack(tmp_path: Path) -> None:
    """Anomaly detection formats the stack for every operator: frames of ours made its steps twice as long."""
    pytest.importorskip("torch", reason="torch is not installed")  # nothing is run that cannot be recorded
    script = tmp_path / "train.py"
    script.write_text("import traceback\nfor f in traceback.extract_stack(): print(f.filename)", encoding="utf-8")
    done = call("run", "-q", "-o", tmp_path / "t.pt.trace.json.gz", script, cwd=tmp_path)
    files = done.stdout.splitlines()
    assert files[-1] == str(script)
    assert not [name for name in files if "typer" in name]
    assert len(files) <= len(("runpy", "runpy", "__main__", "main", "run_program", "run_script", "train.py"))


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m mfu_doctor explain --format json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["report", "try", "trial", "explain"])
def test_of_a_verb_that_is_named_typer_looks_at_no_other(verb: str) -> None:
    alone = verbs_of([verb, "x", "--rank", "1"])
    assert [one.name or getattr(one.callback, "__name__", None) for one in alone.registered_commands] == [verb]


@pytest.mark.parametrize("words", [[], ["--help"], ["reprot"], ["--version", "report"]])
def test_without_a_verb_all_are_there(words: list[str]) -> None:
    assert verbs_of(words) is app
