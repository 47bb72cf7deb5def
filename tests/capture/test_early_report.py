"""The report is printed while the training goes on, once, by a process that the program never meets; or at the end."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from mfu_doctor.facts import Facts
from mfu_doctor.facts.whole_run import WholeRun
from mfu_doctor.session.early import EarlyReport
from mfu_doctor.session.report_process import Made
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import Ended, Zygote
from tests.patience import until

# The text of a report and nothing else has this line.
HEAD = "Step time breakdown"

# What the program hears on standard error. The process is not last in priority here, so that a busy machine makes nobody wait.
HEARING = """
import io
from mfu_doctor.session import beside, early
early.UNLIKE = 1e9  # how steps differ on the machine of the tests decides nothing
beside.CODE = "import os; os.nice = lambda n: n; " + beside.CODE

class Heard(io.StringIO):
    def write(self, text):
        sys.__stderr__.write(text)
        return super().write(text)

def train_until_heard():
    while "Step time breakdown" not in sys.stderr.getvalue():
        train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
        time.sleep(0.002)

sys.stderr = Heard()
"""

MEANWHILE = """
with block(print_report=True) as doctor:
    train_until_heard()
    for i in range(5):
        train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    print("during", len(sys.stderr.getvalue().splitlines()))
print("after", sys.stderr.getvalue().splitlines()[-1])
"""

TURNS = """
with block(print_report=True) as doctor:
    train_until_heard()
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
"""

FAILING = """
beside.CODE = "import sys; sys.stderr.write('no room'); sys.exit(3)"
over, wait = threading.Event(), beside.Beside._wait
beside.Beside._wait = lambda made: (wait(made), over.set())
with block(print_report=True) as doctor:
    for x, y in loader(24):
        train(x, y)
    over.wait()
print("notes", doctor.notes)
"""

ERROR = """
with block(print_report=True) as doctor:
    for x, y in loader(30):
        train(x, y)
    raise RuntimeError("the user's own")
"""

INTERRUPTED = """
with block(print_report=True) as doctor:
    for x, y in loader(30):
        train(x, y)
    raise KeyboardInterrupt
"""

ANY_CHILD = """
with block(print_report=True) as doctor:
    for x, y in loader(24):
        train(x, y)
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        os._exit(7)
    print("met", os.wait()[0] == pid)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no other child")
"""

HANDLER = """
import signal, subprocess
heard = []
signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
with block(print_report=True) as doctor:
    for x, y in loader(24):
        train(x, y)
    assert "the report follows" in sys.stderr.getvalue()
    print("ours", len(heard))
    subprocess.run(["true"])
    print("its own", len(heard))
"""

# It is the program's own child that ends while ours is started.
ENDS_MEANWHILE = """
import signal, subprocess
heard, begin = [], subprocess.Popen
signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))

def begin_late(*args, **options):
    child = begin(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return begin(*args, **options)

subprocess.Popen = begin_late
with block(print_report=True) as doctor:
    for x, y in loader(24):
        train(x, y)
    print("heard", len(heard))
"""

# Its report never comes. Who holds the lock is alive.
LEFT_ALONE = """
beside.CODE = '''
import fcntl, sys, time
sys.path += sys.argv[3:]
from mfu_doctor.session import ending, report_process
def never(*args):
    lock = open("alive", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    open("begun", "w").close()
    time.sleep(3600)
ending.report_of = never
report_process.main()
'''
with block(print_report=True) as doctor:
    for x, y in loader(24):
        train(x, y)
    while not os.path.exists("begun"):
        time.sleep(0.01)
    os._exit(5)
"""

BARS = """
from tqdm import tqdm
with block(print_report=True) as doctor:
    for x, y in tqdm(loader(24), mininterval=0):
        train(x, y)
"""

EVALUATION_FIRST = """
with block(print_report=True) as doctor:
    with torch.no_grad():
        for x, y in loader(40):
            forward(x, y)
    for x, y in loader(30):
        train(x, y)
"""

NOTEBOOK = """
from types import ModuleType, SimpleNamespace
ipython, shown = ModuleType("IPython"), []
ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
ipython.display = ModuleType("IPython.display")
ipython.display.display = shown.append
sys.modules |= {"IPython": ipython, "IPython.display": ipython.display}
with block(print_report=True) as doctor:
    for x, y in loader(30):
        train(x, y)
assert shown == [doctor.report]
assert sys.stderr.getvalue() == ""
"""

SILENT = """
with block(print_report=False) as doctor:
    for x, y in loader(30):
        train(x, y)
"""


def heard(zygote: Zygote, folder: Path, body: str) -> Ended:
    """Run a program that hears what is said."""
    return zygote.run(PRELUDE + HEARING + body, folder)


def test_the_report_comes_while_the_training_goes_on_and_the_end_adds_the_rest(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, MEANWHILE)
    assert ended.code == 0, ended.err
    assert ended.err.count(HEAD) == 1
    recording, recorded, *_ = ended.err.splitlines()
    assert recording == "mfu-doctor: recording steps 13-17 with the profiler"
    assert recorded == "mfu-doctor: recorded, profiler off; the report follows, and the training goes on"
    after = next(line for line in ended.out.splitlines() if line.startswith("after "))
    assert "the whole run (" in ended.err or "the report was made beside" in after


def test_a_report_that_comes_early_leaves_how_long_training_waited_for_a_core(zygote: Zygote, tmp_path: Path) -> None:
    assert heard(zygote, tmp_path, TURNS).code == 0
    host = read(tmp_path / TRACE).facts.host
    assert host is not None
    if host.other_cpu_share is not None:  # Linux
        assert host.turns is not None
        assert host.turns.training_ran > 0


@pytest.mark.parametrize(("long_s", "again"), [(0.0, False), (0.3, False), (0.6, True)])
def test_a_run_whose_steps_took_otherwise_later_has_its_own_report(long_s: float, again: bool) -> None:
    """What only the whole run shows (a growing step, a late evaluation) would else be said to nobody."""
    said: list[str] = []
    capture: Any = SimpleNamespace(
        phase_runner=SimpleNamespace(enter=None),
        samplers=SimpleNamespace(look_on=lambda: None),
        watch=SimpleNamespace(clock=SimpleNamespace(times=SimpleNamespace(count=100, total_ns=1))),
        facts=Facts(whole_run=WholeRun(wall_s=6.0, ended=True, steps=100, steps_s=5.0, long_s=long_s)),
    )
    report = EarlyReport(capture, said.append, None, ())
    report._made(Made(text="the report", step_s=0.05))
    told = report.told_more
    assert (told is None) is again
    assert said[0] == "the report"
    assert [text for text in said[1:] if "more than the 50.0 ms that the report above states" in text] == said[1:]
    assert len(said) == 1 + again


def test_a_failing_process_leaves_the_report_to_the_end(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, FAILING)
    assert ended.code == 0, ended.err
    assert ended.err.count(HEAD) == 1
    notes = next(line for line in ended.out.splitlines() if line.startswith("notes "))
    assert "the report could not be made beside the training: OSError: its process wrote nothing: no room" in notes


def test_the_programs_own_traceback_comes_last_and_once(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, ERROR)
    assert ended.code == 1
    assert ended.err.count("Traceback") == ended.err.count(HEAD) == 1
    assert ended.err.splitlines()[-1] == "RuntimeError: the user's own"


def test_an_interrupted_training_is_reported_on_once(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, INTERRUPTED)
    assert ended.err.count(HEAD) == 1
    assert ended.err.splitlines()[-1] == "KeyboardInterrupt"


def test_a_program_that_waits_for_any_child_does_not_meet_ours(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, ANY_CHILD)
    assert ended.code == 0, ended.err
    assert "met True" in ended.out
    assert "no other child" in ended.out


def test_a_handler_of_ended_children_hears_of_the_programs_own_alone(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, HANDLER)
    assert ended.code == 0, ended.err
    assert "ours 0\nits own 1\n" in ended.out


def test_a_child_that_ends_while_the_process_is_started_is_heard_of(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, ENDS_MEANWHILE)
    assert ended.code == 0, ended.err
    assert "heard 1" in ended.out


def test_a_program_that_leaves_at_once_leaves_no_process(zygote: Zygote, tmp_path: Path) -> None:
    assert heard(zygote, tmp_path, LEFT_ALONE).code == 5
    with (tmp_path / "alive").open() as lock:

        def is_over() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        assert until(is_over), "the process that makes the report goes on without the program"


def test_no_line_of_ours_stands_in_that_of_a_progress_bar(zygote: Zygote, tmp_path: Path) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    lines = heard(zygote, tmp_path, BARS).err.replace("\r", "\n").splitlines()
    ours = [line for line in lines if "mfu-doctor: " in line]
    assert len(ours) > 1
    assert all(line.startswith("mfu-doctor: ") for line in ours)


@pytest.mark.parametrize("body", [EVALUATION_FIRST, ERROR])
def test_a_block_has_one_report(zygote: Zygote, tmp_path: Path, body: str) -> None:
    assert heard(zygote, tmp_path, body).err.count(HEAD) == 1


def test_a_notebook_shows_the_report_once_and_nothing_else(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, NOTEBOOK)
    assert ended.code == 0, ended.err


def test_who_wants_no_report_hears_nothing(zygote: Zygote, tmp_path: Path) -> None:
    ended = heard(zygote, tmp_path, SILENT)
    assert (ended.code, ended.err) == (0, "")


def test_a_step_takes_its_part_of_what_comes_between_all_steps() -> None:
    """40 steps of a second, ten of them with a profiler, and a second after each: every step took two."""
    run = WholeRun(wall_s=80, ended=True, steps=40, steps_s=40, profiled_steps=10, profiled_s=10, between_s=40, gaps=40)
    assert run.step_s == pytest.approx(2.0)
