"""Every command that README shows is run, or stands on a list with the reason why not."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mfu_doctor.cli.main import main
from mfu_doctor.inputs.settings import parse_settings
from tests.job.drawn_traces import write_job
from tests.patience import LONGEST_S
from tests.traces import ROOT, SUFFIX, real_trace

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIXTURE = ROOT / "tests" / "fixtures" / "torch213_cpu.json.gz"

NOT_RUN = {
    "python3 -m venv .venv": "sets up: CI does it before the tests",
    ".venv/bin/pip install -q torch -e .": "sets up: CI does it before the tests",
    ".ci/run": "runs these tests",
    "python examples/clinic/run.py": "takes minutes; its recorded patients have a test of their own",
    "torchrun --nproc-per-node 8 --no-python mfu-doctor run -o runs/7.json.gz train.py": "eight processes that train; "
    "a test of `run` starts two",
    "mfu-doctor try train.py --epochs 1": "runs a program for minutes; tests of trials run small ones",
    "mfu-doctor report s3://bucket/runs/7/ --dask tcp://scheduler:8786": "a store and a cluster; tests of jobs read others",
}

# Added to a command of the README whose program trains: a model and a run so small that they take no time.
SMALLER = {"examples/nanogpt.py": ["--steps", "20", "--batch", "2", "--block", "16", "--width", "16", "--layers", "1"]}


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[str]:
    rows = [row for block in _blocks("bash") for row in block.splitlines() if row.strip()]
    return [part.strip() for row in rows for part in row.split("&&")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: traces, and a training script with a package beside it."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("run", "before", "after"):
        (place / f"{name}.json.gz").write_bytes(FIXTURE.read_bytes())
    script = "import sys\nassert sys.argv[1:] == ['--epochs', '1']\n"
    (place / "train.py").write_text(script, encoding="utf-8")
    (place / "package").mkdir()
    (place / "package" / "train.py").write_text(script, encoding="utf-8")
    (place / "examples").symlink_to(ROOT / "examples")
    write_job(place / "runs" / "7", 3)
    write_job(place / "runs" / "8", 3, slow=None)
    return place


def _run(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit status of a command that trains, in a process as a user has it, and what it said."""
    words = [*words, *(more for word in words for more in SMALLER.get(word, []))]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mfu_doctor", *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LONGEST_S)
    return done.returncode, done.stderr


def _called(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """The same of a command that only reads, without the start of a process."""
    monkeypatch.setattr(sys, "argv", ["mfu-doctor", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, capsys.readouterr().err


def test_the_commands_of_the_readme_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One test, in the order of the README and in one folder: later commands read what earlier ones wrote."""
    monkeypatch.chdir(folder)
    with_torch = importlib.util.find_spec("torch") is not None
    for command in _commands():
        words = shlex.split(command)
        if command in NOT_RUN or (words[1] == "run" and not with_torch):
            continue
        assert words[0].rpartition("/")[2] == "mfu-doctor", f"{command} is neither ours nor on the list"
        code, said = _run(words[1:], folder) if words[1] == "run" else _called(words[1:], monkeypatch, capsys)
        assert code == 0, f"{command}: {said}"
        assert "Traceback" not in said, f"{command}: {said}"
    if not with_torch:
        pytest.skip("torch is not installed: the commands that train were left out, the others work")


def test_the_list_of_exceptions_names_only_commands_of_the_readme() -> None:
    assert set(NOT_RUN) <= set(_commands())


def test_the_report_shown_is_what_the_tool_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resnet50.json.gz").write_bytes(real_trace(f"v100_resnet50_workers0{SUFFIX}").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mfu-doctor", "report", "resnet50.json.gz"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.strip() in README


def test_the_settings_shown_are_valid() -> None:
    import tomllib

    table = tomllib.loads("\n".join(_blocks("toml")))["tool"]["mfu-doctor"]
    assert parse_settings(table, Path("pyproject.toml")).budgets


def test_the_python_shown_compiles() -> None:
    for block in _blocks("python"):
        compile(block, "README.md", "exec")


def test_files_that_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert ".ci/run" in _commands()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
