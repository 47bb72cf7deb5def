"""`profile()` inside `profile()`, in a second thread, twice with one recorder: nothing is raised, and the first block records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.programs import PRELUDE, TAKES_OVER, TRACE, ours, read, with_and_without
from tests.capture.test_run_script import RUN
from tests.capture.zygote import Zygote

# PRELUDE opens all blocks at one line.
SAID = "mfu-doctor: another profile() is already active at program.py:17: the one at program.py:17 records nothing"
AGAIN = "mfu-doctor: profile() at program.py:17 was entered inside its own block: the outermost one is recorded"

# Each body trains 24 steps in a block; what another block does meanwhile, and the lines that its line is told by.
MEANWHILE = {
    "a block inside": (
        """
            with block("inner.pt.trace.json.gz", print_report=True) as inner:
                for x2, y2 in inner.batches(loader(3)): train(x2, y2)
                inner.step()
""",
        SAID,
    ),
    "a block inside that ends in an exception": (
        """
            try:
                with block("inner.pt.trace.json.gz", print_report=True) as inner: raise ValueError("mine")
            except ValueError as error: print("loss", error)
""",
        SAID,
    ),
    "a block in a second thread": (
        """
            def second():
                with block("inner.pt.trace.json.gz", print_report=True) as inner: train(x, y)
            thread = threading.Thread(target=second)
            thread.start(); thread.join()
""",
        SAID,
    ),
    "the same recorder again": (
        """
            with contextlib.nullcontext() if PLAIN else doctor: train(x, y)
""",
        AGAIN,
    ),
    "the same recorder again, in a second thread": (
        """
            def second():
                with contextlib.nullcontext() if PLAIN else doctor: train(x, y)
            thread = threading.Thread(target=second)
            thread.start(); thread.join()
""",
        AGAIN,
    ),
}
OUTER = """
with block(print_report=True) as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i in (3, 4):
"""


@pytest.mark.parametrize("name", MEANWHILE)
def test_another_block_meanwhile_says_one_line_and_the_outer_one_records(
    zygote: Zygote, tmp_path: Path, name: str
) -> None:
    meanwhile, line = MEANWHILE[name]
    watched, _ = with_and_without(zygote, tmp_path, OUTER.rstrip("\n") + meanwhile)
    assert watched.code == 0, watched.err
    assert watched.err.splitlines()[0] == line
    assert watched.err.count(line) == 1  # once, though it happened twice
    assert not list((tmp_path / "ours").glob("inner*"))
    facts = ours(tmp_path).facts
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
    assert facts.notes == ()
    assert "Traceback" not in watched.err


def test_the_recorder_of_a_block_that_records_nothing_says_why(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    train(*next(iter(loader(1))))
    with block("inner.pt.trace.json.gz") as inner: pass
with contextlib.nullcontext() if PLAIN else inner:  # now it is alone
    for x, y in loader(24): train(x, y)
if not PLAIN:
    assert inner.path.name == "inner.pt.trace.json.gz" and inner.report is not None and inner.notes == ()
with block() as doctor:
    with contextlib.nullcontext() if PLAIN else inner: pass
if not PLAIN:
    assert (inner.path, inner.report) == (None, None)
    print(inner.notes)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    assert watched.err == ""  # print_report=False
    assert SAID.partition(": ")[2] in watched.out


def test_of_two_threads_that_come_at_once_one_is_recorded(zygote: Zygote, tmp_path: Path) -> None:
    body = """
gate, ended = threading.Barrier(2), threading.Barrier(2)
def work(name):
    mine = nn.Linear(8, 4)
    sgd = torch.optim.SGD(mine.parameters(), lr=0.1)
    gate.wait()
    with block(f"{name}.pt.trace.json.gz") as doctor:
        ended.wait()
        for _ in range(24):
            mine(torch.ones(4, 8)).sum().backward()
            sgd.step(); sgd.zero_grad()
        ended.wait()
    if not PLAIN: print(doctor.path is not None, doctor.report is not None, len(doctor.notes))
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err  # libkineto complains there about the thread
    assert sorted(watched.out.splitlines()) == ["False False 1", "True True 0"]
    assert len(list((tmp_path / "ours").glob("*.gz"))) == 1


def test_a_block_of_the_program_takes_over_from_run_in_a_thread_of_its_own(zygote: Zygote, tmp_path: Path) -> None:
    """The profiler session of the thread that trained until then belongs to it: it must be stopped there, or the process dies."""
    (tmp_path / "own.py").write_text(PRELUDE + TAKES_OVER.replace("AT", "14"))
    ran = zygote.run(RUN, tmp_path, "script", "own.py")
    assert (ran.code, ran.err) == (0, "")
    assert read(tmp_path / "own.pt.trace.json.gz").facts.windows[0].steps == 5
    assert not (tmp_path / TRACE).exists()


def test_batches_are_noted_in_the_block_alone(zygote: Zygote, tmp_path: Path) -> None:
    """Neither before it, where nothing would ever end the recording, nor in a child that goes on with the loop."""
    body = """
data = list(loader(24))
doctor = block()
marked = data if PLAIN else doctor.batches(data)
for x, y in marked: train(x, y)
print("loss", os.path.exists("out.pt.trace.json.gz"))
with contextlib.nullcontext() if PLAIN else doctor:
    for i, (x, y) in enumerate(marked):
        if i == 3:
            child = os.fork()
            if child == 0: before = os.listdir()
            else: assert os.waitpid(child, 0)[1] == 0
        train(x, y)
    if child == 0: os._exit(os.listdir() != before)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert (watched.code, watched.err) == (0, "")
    assert ours(tmp_path).facts.windows[0].steps == 5
