"""What `mfu-doctor run` can be given besides a script: a folder, a package, and numbers that are zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.facts import Schedule
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import Zygote

RUN = """
import sys
from mfu_doctor.session.run_script import RunOptions, run_script
options = RunOptions(output="out.pt.trace.json.gz", print_report=False, {options})
sys.exit(run_script(sys.argv[2], sys.argv[3:], module=sys.argv[1] == "-m", options=options))
"""


@pytest.mark.parametrize("how", ["script", "-m"])
def test_a_folder_or_a_package_runs_its_main_file(zygote: Zygote, tmp_path: Path, how: str) -> None:
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text("word = 'beside'")
    find = "from beside import word" if how == "script" else "from training.beside import word"
    (package / "__main__.py").write_text(f"{find}\nimport sys\nprint(__name__, word, sys.argv[1:])\n")
    ran = zygote.run(RUN.format(options=""), tmp_path, how, "training", "--epochs", "3")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "__main__ beside ['--epochs', '3']\n"


@pytest.mark.parametrize("target", ["short.py", "folder"])
def test_the_file_of_a_script_is_found_from_another_directory(zygote: Zygote, tmp_path: Path, target: str) -> None:
    """Programs open what lies beside them, also after os.chdir: Python gives them the whole path."""
    path = tmp_path / target if target.endswith(".py") else tmp_path / target / "__main__.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("import os, sys\nprint(__file__, sys._getframe().f_code.co_filename, sys.argv)\n")
    ran = zygote.run(RUN.format(options=""), tmp_path, "script", target)
    assert ran.out == f"{path} {path} {[target]}\n"


def test_a_phase_of_no_steps_is_not_the_default_phase(zygote: Zygote, tmp_path: Path) -> None:
    """With `--skip 0 --timed 0 --warmup 0` a script of three steps is recorded from its first one."""
    (tmp_path / "short.py").write_text(PRELUDE + "for x, y in loader(30):\n    train(x, y)\n")
    ran = zygote.run(RUN.format(options="skip=0, timed=0, warmup=0, active=3"), tmp_path, "script", "short.py")
    assert ran.code == 0, ran.err
    written = read(tmp_path / TRACE)
    assert written.facts.asked == Schedule(skip=0, timed=0, warmup=0, active=3)
    assert written.facts.windows[0].steps == 3
    assert written.steps[:3] == [1, 2, 3]  # mark 0 was opened before the first batch, when nothing told of steps yet


@pytest.mark.parametrize("option", ["at_step=2", "live=0", "live=1, live_file='missing/lines'"])
def test_a_wrong_option_is_no_error_of_the_program(zygote: Zygote, tmp_path: Path, option: str) -> None:
    (tmp_path / "short.py").write_text("print('began')")
    told = RUN.format(options=option).replace("sys.exit(", "from mfu_doctor.errors import DoctorError\ntry: sys.exit(")
    ran = zygote.run(f"{told}except DoctorError as error: print('refused', error)\n", tmp_path, "script", "short.py")
    assert ran.out.startswith("refused "), ran.err
