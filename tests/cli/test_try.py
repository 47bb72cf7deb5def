"""`mfu-doctor try` as a user calls it: what it says before it runs, its options, a whole trial, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.cli.trying import TryOptions, ended_as_by_a_person, run_try
from mfu_doctor.render.terminal.paint import Abilities
from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import Trial
from mfu_doctor.trial.remedies.catalogue import REMEDIES
from tests.capture.programs import DRAWN_CLOCK
from tests.patience import LONGEST_S, until
from tests.sample_report import full_report
from tests.traces import ROOT
from tests.trial.programs import PLENTY, TRAIN, own_fix, soon_over

ENVIRON = os.environ | {"PYTHONPATH": str(ROOT)}
AS_TORCHRUN = "error: train.py is an input" if find_spec("torch") else "error: torch is not installed for "
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="the programs train with torch")


def call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mfu_doctor", "try", *map(str, words)]
    environ = ENVIRON | {"XDG_STATE_HOME": str(cwd / "state")}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=LONGEST_S)


def script(folder: Path, source: str = PLENTY) -> Path:
    path = folder / "train.py"
    path.write_text(source, encoding="utf-8")
    return path


def test_a_dry_run_says_what_would_run_and_runs_nothing(tmp_path: Path) -> None:
    script(tmp_path, "raise SystemExit('it ran')")
    done = call("--dry-run", "--minutes", "3", "train.py", "--epochs", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    said = " ".join(done.stderr.split())
    assert (
        "train.py --epochs 1 runs once to be recorded, then in turns with and without each fix of its plan: 3 to 12 times "
        "each, until the difference is settled, for 3 minutes at most in all." in said
    )
    assert "checkpoints and logs, it writes each time; MFU_DOCTOR_TRIAL=1 in its environment tells it" in said
    assert max(map(len, done.stderr.splitlines())) <= 80
    assert done.stderr.endswith("nothing was run.\n")


def test_the_list_has_every_fix(tmp_path: Path) -> None:
    done = call("--list", cwd=tmp_path)
    assert "--fix NAME tries it without a finding, where it applies." in " ".join(done.stdout.split())
    assert done.returncode == 0
    assert all(remedy.name in done.stdout for remedy in REMEDIES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "error: no program is named: write the script, or -m and a module, after the options"),
        (["missing.py"], "error: cannot read missing.py: pass the path of a Python script"),
        (["--fix", "no-such-fix", "train.py"], "error: no remedy is named 'no-such-fix'"),
        (
            ["--fix", "loader-workers=0", "train.py"],
            "error: loader-workers does not take the setting '0': it takes a number of at least 1",
        ),
        (["--fix", "compile=fast", "train.py"], "error: compile does not take the setting 'fast': it takes default, "),
        (["--fix", "tf32=2", "train.py"], "error: tf32 takes no setting: write --fix tf32"),
        (["--board", "train.py", "torchrun", "train.py"], AS_TORCHRUN),
        (["--write-patch", "mine.py", "--fix", "mine.py", "-m", "json"], "error: mine.py is an input"),
        (["--fix", "missing.py", "train.py"], "error: there is no file missing.py"),
        (["-o", "x.pdf", "train.py"], "error: no output format is known for the file name x.pdf"),
        (["--epochs", "train.py"], "error: unknown option --epochs"),
        (["-o", "missing/x.json", "train.py"], "error: missing/x.json cannot be written (No such file or directory)"),
        (["--board", ".", "train.py"], "error: . cannot be written (Is a directory)"),
        (["--board", "x.md", "-o", "./x.md", "train.py"], "error: x.md is named for two outputs: pass a file for each"),
    ],
)
def test_a_wrong_word_is_one_sentence(tmp_path: Path, words: list[str], said: str) -> None:
    script(tmp_path, "raise SystemExit('it ran')")
    (tmp_path / "mine.py").write_text("")
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(said)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_as_by_a_person():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_file_that_cannot_be_written_at_the_end_takes_nothing_else_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the report goes while the program runs: the table is shown, and the board is written."""
    folder = tmp_path / "gone"
    folder.mkdir()
    trial = Trial(program="train.py", budget_s=60, spent_s=60, runs=3, steps=9, unchanged_s=0.1)

    def while_it_runs(*_: object) -> Report:
        folder.rmdir()
        return replace(full_report(), trial=trial)

    monkeypatch.setattr("mfu_doctor.cli.trying.try_out", while_it_runs)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = TryOptions(output=str(folder / "x.json"), board=str(tmp_path / "board.md"))
    text, failed = run_try([str(script(tmp_path))], options, Abilities(), lambda _: None)
    assert "The unchanged step takes 100 ms" in text
    assert failed is not None
    assert "x.json cannot be written" in str(failed)
    assert (tmp_path / "board.md").exists()


@needs_torch
def test_a_fix_is_tried_on_the_program(tmp_path: Path) -> None:
    """What a step takes is drawn, so that no machine decides the test: 300 ms, and with the fix 30."""
    passes = 'passes(int(os.environ.get("STEP_MS", "300")) / 1e3)'
    path = script(
        tmp_path, "import time\n" + DRAWN_CLOCK + TRAIN.replace("time.sleep(0.002)", passes) + "train(1000)\n"
    )
    name = own_fix(tmp_path, "import os\nos.environ['STEP_MS'] = '30'\n")
    done = call("--fix", name, "--minutes", "60", "-o", "tried.json", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the losses are identical" in done.stdout
    trial = json.loads((tmp_path / "tried.json").read_text())["trial"]
    assert trial["unchanged_s"] == pytest.approx(0.3)
    (tried,) = trial["tried"]
    assert (tried["verdict"], tried["loss"], tried["fixes"]) == ("better", "identical", [name])


@needs_torch
def test_an_interrupt_ends_all_and_shows_what_is_known(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.write_text("", encoding="utf-8")
    source = TRAIN + "open(sys.argv[1], 'a').write(f'{os.getpid()} ')\ntrain(10**9)\n"
    name = own_fix(tmp_path, "import time, torch\ntorch.randn = lambda *_: time.sleep(3600)\n")
    command = [sys.executable, "-m", "mfu_doctor", "try", "--fix", name, str(script(tmp_path, source)), str(pids)]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests in the background ignore it, and so would it
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        signal.signal(signal.SIGINT, before)
        begun = until(lambda: len(pids.read_text().split()) == 3)  # recorded, unchanged, with the fix
        run.send_signal(signal.SIGINT)
        shown, said = run.communicate(timeout=LONGEST_S)
    assert begun
    assert run.returncode == 0, said
    assert "Not all is settled: it was interrupted." in shown
    assert "not tried" in shown  # it was not measured
    assert all(soon_over(int(pid)) for pid in pids.read_text().split())
