"""Programs that leave little to hold on to, or hold on to much themselves: they run as they do alone, and are recorded whole."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mfu_doctor.capture.patience import joined
from tests.capture.programs import LOOP, PRELUDE, TRACE, ours, read, told_by_the_program, with_and_without
from tests.capture.test_run_script import RUN, SHOWN
from tests.capture.zygote import ROOT, Zygote
from tests.patience import LONGEST_S

ENVIRON = os.environ | {"PYTHONPATH": str(ROOT)}

PROGRAMS = {
    "an empty search path": LOOP.replace("    for", "    sys.path[:] = []\n    for"),
    "a search path of its own": LOOP.replace("    for", "    mine = sys.path = ['/nowhere']\n    for")
    + "assert sys.path is mine and mine == ['/nowhere']\n",
    "an empty environment": LOOP.replace("        train", "        os.environ.clear(); train"),
    "another working directory in each step": LOOP.replace("        train", "        os.chdir('/'); train"),
    "streams that are closed": LOOP.replace("block()", "block(print_report=True)")
    + "    sys.stdout.close(); sys.stderr.close()\n    for number in (0, 1, 2):\n"
    + "        with contextlib.suppress(OSError): os.close(number)\n",
    "an exit inside an exit handler": "\nimport atexit\natexit.register(sys.exit, 3)\n" + LOOP,
    "an alarm that its handler turns into an exception": """
import signal
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGALRM, late)
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i in (3, 14):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                time.sleep(3600)
            except Late: print("loss late")
print("loss", signal.getsignal(signal.SIGALRM) is late)
""",
    "faulthandler": "\nimport faulthandler\nfaulthandler.enable(); faulthandler.dump_traceback_later(3600)\n" + LOOP
    + "print('loss', faulthandler.is_enabled())\nfaulthandler.cancel_dump_traceback_later()\n",
    "a trace function": """
seen = set()
def traced(frame, event, arg):
    if "mfu_doctor" not in frame.f_code.co_filename: seen.add(event)
    return traced
sys.settrace(traced)
""" + LOOP + "print('loss', sys.gettrace() is traced, sorted(seen))\nsys.settrace(None)\n",
    "a frozen collector": "\nimport gc\ngc.freeze(); gc.disable()\n" + LOOP
    + "print('loss', gc.isenabled(), gc.get_freeze_count() > 0)\n",
    "a collector that runs at each allocation": "\nimport gc\ngc.set_threshold(1)\n" + LOOP
    + "print('loss', gc.get_threshold())\n",
    "daemon threads that are busy at the end": """
def busy():
    while True: sum(range(1000))
for _ in range(2): threading.Thread(target=busy, daemon=True).start()
""" + LOOP,
    "spawned children": """
import multiprocessing
if __name__ == "__main__":
    with block() as doctor:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            for x, y in loader(24):
                train(x, y)
            print("loss", pool.map(abs, [-1, 2]))
""",
    "no descriptor left at the end": """
import resource
with block() as doctor:
    for x, y in loader(24): train(x, y)
    held = []
    try:
        while True: held.append(open(os.devnull))
    except OSError: pass
for one in held: one.close()
""",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_runs_as_it_does_alone_and_is_recorded(zygote: Zygote, tmp_path: Path, name: str) -> None:
    watched, plain = with_and_without(zygote, tmp_path, PROGRAMS[name])
    assert told_by_the_program(watched) == plain.err
    assert [(window.kind, window.steps) for window in ours(tmp_path).facts.windows] == [("timing", 5), ("shapes", 1)]


PROFILED = """
import cProfile
own = cProfile.Profile()
with block() as doctor:
    own.enable()
    for x, y in loader(24): train(x, y)
    print("loss", sys.getprofile() is not None)
    own.disable()
print("loss", any(name == "train" for _, _, name in (entry.code if isinstance(entry.code, tuple) else
      (0, 0, getattr(entry.code, "co_name", "")) for entry in own.getstats())))
"""


def test_a_python_profiler_of_the_users_stays(zygote: Zygote, tmp_path: Path) -> None:
    """Torch records stacks as a Python profiler does, and takes off whichever there was."""
    watched, _ = with_and_without(zygote, tmp_path, PROFILED)
    assert watched.code == 0, watched.err
    facts = ours(tmp_path).facts
    assert [window.kind for window in facts.windows] == ["timing", "shapes"]
    assert "no source lines: a Python profiler (sys.setprofile) is active" in facts.notes


def test_little_room_for_recursion_costs_nothing(zygote: Zygote, tmp_path: Path) -> None:
    body = (
        LOOP.replace("        train", "        sys.setrecursionlimit(90); train")
        + "print('loss', sys.getrecursionlimit())\n"
    )
    watched, _ = with_and_without(
        zygote, tmp_path, body + "if not PLAIN: assert doctor.report is not None, doctor.notes\n"
    )
    assert watched.code == 0, watched.err
    assert ours(tmp_path).facts.notes == ()


# Scripts under `mfu-doctor run`.
THREAD = """
def work():
    ready.wait()
    for x, y in loader(24): train(x, y)
ready = threading.Event()
threading.Thread(target=work).start()
import atexit
atexit.register(print, "bye")
"""


@pytest.mark.parametrize("ending", ["", "raise ValueError('mine')", "sys.exit(3)"])
def test_a_script_whose_threads_train_on_is_recorded_to_their_end(zygote: Zygote, tmp_path: Path, ending: str) -> None:
    """Python waits for its threads when the main one has ended; so does the recording."""
    late = "threading.Timer(0.3, ready.set).start()\n"  # the main thread has ended by then
    (tmp_path / "threads.py").write_text(PRELUDE + THREAD + late + ending)
    ran = zygote.run(SHOWN, tmp_path, "script", "threads.py")
    assert ran.code == {"": 0, "raise ValueError('mine')": 1, "sys.exit(3)": 3}[ending], ran.err
    assert ran.err.count("Traceback") == ending.startswith("raise")
    assert len(ran.losses) == 24
    assert "bye" in ran.out
    assert "Step time breakdown" in ran.err
    assert read(tmp_path / TRACE).facts.windows[0].steps == 5


def test_threads_that_never_train_do_not_put_the_report_off(zygote: Zygote, tmp_path: Path) -> None:
    idle = "stop = threading.Event()\nthreading.Thread(target=stop.wait).start()\n"
    loop = "for x, y in loader(24): train(x, y)\nimport atexit\natexit.register(print, os.path.exists('out.pt.trace.json.gz'))\n"
    (tmp_path / "idle.py").write_text(PRELUDE + idle + loop + "threading.Timer(0.2, stop.set).start()\n")
    ran = zygote.run(RUN, tmp_path, "script", "idle.py")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("True\n")


RUNS = {
    "its own directory is deleted": "import shutil\nshutil.rmtree(os.getcwd())\n",
    "its search path is emptied at the end": "import atexit\natexit.register(sys.path.clear)\nsys.path.clear()\n",
    "its modules are cleared away": (
        "for name in list(sys.modules):\n    if name.startswith('mfu_doctor.render'): del sys.modules[name]\n"
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_script_that_takes_away_what_it_stands_on_has_its_report(zygote: Zygote, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "script.py").write_text(PRELUDE + "for x, y in loader(24): train(x, y)\n" + RUNS[name])
    start = f"import os; os.chdir({str(folder)!r})\n" + SHOWN.replace('"out.pt', f'"{tmp_path}/kept/out.pt')
    ran = zygote.run(start, tmp_path, "script", "script.py")
    assert ran.code == 0, ran.err
    assert "Step time breakdown" in ran.err, ran.err
    assert read(tmp_path / "kept" / TRACE).facts.windows[0].steps == 5


def test_spawned_workers_of_a_script_find_its_main_module(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    source = """
class Squares(torch.utils.data.Dataset):
    def __len__(self): return 96
    def __getitem__(self, i): return torch.ones(8) * i, i % 4
if __name__ == "__main__":
    for x, y in DataLoader(Squares(), 4, num_workers=1, multiprocessing_context="spawn"): train(x, y)
"""
    (tmp_path / "spawns.py").write_text(PRELUDE + source)
    command = [sys.executable, "-m", "mfu_doctor", "run", "--quiet", "-o", TRACE, "spawns.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=LONGEST_S)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert read(tmp_path / TRACE).facts.windows[0].steps == 5


def test_a_pipe_that_nobody_reads_does_not_stop_the_training(zygote: Zygote, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    ran = zygote.run(PRELUDE + LOOP.replace("block()", "block('pipe.json')") + "print(doctor.path)", tmp_path)
    assert ran.code == 0, ran.err
    written = Path(ran.out.splitlines()[-1])
    assert any("no process reads this pipe" in note for note in read(written).facts.notes)
    written.unlink()


def test_a_pipe_with_a_reader_gets_the_trace_and_is_not_read_again(zygote: Zygote, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    got: list[bytes] = []
    opened = os.open(tmp_path / "pipe.json", os.O_RDONLY | os.O_NONBLOCK)  # before the program, which waits for nobody

    def read() -> None:
        select.select([opened], [], [])  # until something is written
        os.set_blocking(opened, True)
        with os.fdopen(opened, "rb") as pipe:
            got.append(pipe.read())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    body = LOOP.replace("block()", "block('pipe.json')") + "print(doctor.path, doctor.report, doctor.notes)"
    ran = zygote.run(PRELUDE + body, tmp_path)
    assert ran.code == 0, ran.err
    assert joined(reader, LONGEST_S)
    assert json.loads(got[0])["traceEvents"]
    assert "which cannot be read again" in ran.out.splitlines()[-1]


def test_a_name_that_no_file_can_have_costs_only_a_note(zygote: Zygote, tmp_path: Path) -> None:
    body = """
for path in ("x" * 300, "zero\\0byte", "~nobody-of-this-name/x.json"):
    with block(path) as doctor:
        for x, y in loader(6): train(x, y)
    if not PLAIN:
        assert doctor.path.is_file(), doctor.notes
        if doctor.path.parent == __import__("pathlib").Path("/tmp"): doctor.path.unlink()
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err


def test_two_runs_to_one_output_leave_one_whole_trace(tmp_path: Path) -> None:
    """Real processes at once: each file is whole, and neither takes away what the other one left."""
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / "program.py").write_text(PRELUDE + LOOP)
    quiet = subprocess.DEVNULL
    running = [
        subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, env=ENVIRON, stdout=quiet) for _ in range(2)
    ]
    assert [process.wait(LONGEST_S) for process in running] == [0, 0]
    assert read(tmp_path / TRACE).facts.windows[0].steps == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [TRACE, "program.py"]
