"""`run_script` runs a program that does not notice: its arguments, path, `__main__`, output, traceback and exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.api.report import Report
from mfu_doctor.errors import DoctorError
from mfu_doctor.session.run_script import RunOptions, run_script
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import ROOT, Zygote
from tests.goldens import FOLDER
from tests.patience import LONGEST_S

# What `mfu-doctor run` does, without the command line around it.
RUN = """
import sys
from mfu_doctor.session.run_script import RunOptions, run_script
options = RunOptions(output="out.pt.trace.json.gz", print_report=False)
sys.exit(run_script(sys.argv[2], sys.argv[3:], module=sys.argv[1] == "-m", options=options))
"""

TRAIN = (
    PRELUDE
    + """
class Sample:
    pass

if __name__ == "__main__":
    import pickle
    print(sys.argv, os.path.samefile(sys.path[0], os.path.dirname(os.path.abspath(__file__))), __name__)
    print(type(pickle.loads(pickle.dumps(Sample()))) is Sample, sys.modules["__main__"].Sample is Sample)
    for x, y in loader(24):
        train(x, y)
    sys.exit(int(sys.argv[2]))
"""
)


@pytest.mark.parametrize("how", ["script", "-m"])
def test_a_program_runs_as_itself_and_leaves_a_trace(zygote: Zygote, tmp_path: Path, how: str) -> None:
    (tmp_path / "training.py").write_text(TRAIN)
    target = "training" if how == "-m" else "training.py"
    ran = zygote.run(RUN, tmp_path, how, target, "--code", "5")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "training.py").write_text(TRAIN)
    plain = zygote.run(
        f"import runpy, sys; sys.argv[:] = {['training.py', '--code', '5']}; exec(open('training.py').read())", alone
    )
    assert ran.code == plain.code == 5, ran.err
    assert ran.err == ""
    assert ran.losses == plain.losses
    lines = [line for line in ran.out.splitlines() if not line.startswith("loss")]
    assert lines[0].endswith("'--code', '5'] True __main__")
    assert lines[1] == "True True"
    facts = read(tmp_path / TRACE).facts
    assert facts.site == target
    assert facts.windows[0].steps == 5


ENDINGS = {
    "raise ValueError('mine')": (1, "ValueError: mine"),
    "import sys; sys.exit('a message')": (1, "a message"),
    "import sys; sys.exit()": (0, ""),
    "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)": (130, "KeyboardInterrupt"),
    "def broken(:": (1, "SyntaxError"),
    "import atexit; atexit.register(print, 'bye')": (0, ""),
}


@pytest.mark.parametrize("source", ENDINGS)
def test_it_ends_as_the_program_ends(zygote: Zygote, tmp_path: Path, source: str) -> None:
    (tmp_path / "ends.py").write_text(source)
    code, message = ENDINGS[source]
    ran = zygote.run(RUN, tmp_path, "script", "ends.py")
    assert ran.code == code
    assert message in ran.err
    assert "mfu_doctor" not in ran.err  # no frame of ours in the traceback
    assert ("bye" in ran.out) == ("bye" in source)


def test_a_profile_of_the_programs_own_takes_over(zygote: Zygote, tmp_path: Path) -> None:
    source = (
        PRELUDE + "with block('own.pt.trace.json.gz') as doctor:\n    for x, y in loader(24):\n        train(x, y)\n"
    )
    (tmp_path / "own.py").write_text(source)
    ran = zygote.run(RUN, tmp_path, "script", "own.py")
    assert ran.code == 0, ran.err
    assert read(tmp_path / "own.pt.trace.json.gz").facts.windows[0].steps == 5
    assert not (tmp_path / TRACE).exists()


def test_what_cannot_be_run_says_so_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DoctorError, match=r"cannot read .*missing\.py"):
        run_script(str(tmp_path / "missing.py"), options=RunOptions())
    with pytest.raises(DoctorError, match="no module named nowhere"):
        run_script("nowhere.to.be.found", module=True)


def test_without_torch_there_is_nothing_to_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DoctorError, match=r"torch is not installed for .*, so there is nothing to record"):
        run_script(str(tmp_path / "train.py"))


SHOWN = RUN.replace("False", "True")


def test_a_program_that_fails_before_it_trains_shows_its_own_traceback_alone(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import nothing_like_this")
    ran = zygote.run(SHOWN, tmp_path, "script", "fails.py")
    assert ran.err.startswith("Traceback")
    assert ran.err.count("ModuleNotFoundError") == 1
    assert ran.err.rstrip().endswith("No module named 'nothing_like_this'")


FAILING = {
    "at an import": "import nothing_like_this",
    "at its arguments": "import argparse; argparse.ArgumentParser().parse_args()",
    "in its first step": PRELUDE + "for x, y in loader(24):\n    1 / 0\n",
}


@pytest.mark.parametrize("when", FAILING)
def test_a_program_that_fails_before_its_first_step_leaves_nothing(zygote: Zygote, tmp_path: Path, when: str) -> None:
    """Nor does it take away what an earlier run left."""
    (tmp_path / "fails.py").write_text(FAILING[when])
    assert zygote.run(SHOWN, tmp_path, "script", "fails.py", "--more").code
    assert not (tmp_path / TRACE).exists()
    (tmp_path / TRACE).write_bytes(b"earlier")
    zygote.run(SHOWN, tmp_path, "script", "fails.py", "--more")
    assert (tmp_path / TRACE).read_bytes() == b"earlier"


def test_a_program_that_does_not_train_is_told_so_in_one_line(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("print('hello')")
    ran = zygote.run(SHOWN, tmp_path, "script", "other.py")
    assert ran.err.splitlines() == [ran.err.strip()]
    assert "nothing to report" in ran.err


# The report of another run: that of this one has more to say on a busy machine, and then no room for these commands.
STEADY = f"""
from mfu_doctor.api.report import Report
from mfu_doctor.session import recorder
steady = Report.load({str(FOLDER / "cpu_only.json")!r})
recorder.report_of = lambda path, folder: steady
"""


def test_the_commands_of_the_report_name_the_file_from_where_the_program_was_started(
    zygote: Zygote, tmp_path: Path
) -> None:
    (tmp_path / "training.py").write_text(PRELUDE + "for x, y in loader(24):\n    train(x, y)\nos.chdir('/')\n")
    (tmp_path / "runs").mkdir()
    ran = zygote.run(STEADY + SHOWN.replace("out.pt", "runs/out.pt"), tmp_path, "script", "training.py")
    named = re.findall(r"mfu-doctor (?:report|annotate) (?:\\\s+)?(\S+)", ran.err)
    assert set(named) == {"runs/out.pt.trace.json.gz"}


def test_each_rank_of_torchrun_writes_its_file_into_one_directory(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / "ranks.py").write_text(PRELUDE + "for x, y in loader(10):\n    train(x, y)\n")
    (tmp_path / "run.py").write_text(RUN)
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "run.py", "script", "ranks.py"],
            cwd=tmp_path,
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]
    assert [process.wait(LONGEST_S) for process in processes] == [0, 0]
    written = [read(tmp_path / "out" / f"rank{rank}.pt.trace.json.gz").facts for rank in range(2)]
    assert [(facts.rank, facts.world_size) for facts in written] == [(0, 2), (1, 2)]


# What `mfu-doctor run` reports at the end, kept as JSON by the process that trained.
RECORDED = """
import sys
from mfu_doctor.session.run_script import RunOptions, _profiled
import runpy
with _profiled("training.py", RunOptions(output="out.pt.trace.json.gz", print_report=False)) as doctor:
    runpy.run_path("training.py")
doctor.report.save("report.json")
"""


def test_the_report_of_a_run_is_that_of_its_trace_to_the_last_digit(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(PRELUDE + "for x, y in loader(24):\n    time.sleep(0.05)\n    train(x, y)\n")
    ran = zygote.run(RECORDED, tmp_path)
    assert ran.code == 0, ran.err
    told, read_back = Report.load(tmp_path / "report.json"), diagnose(tmp_path / TRACE)
    assert told.failed
    assert replace(told, created="") == replace(read_back, created="")
