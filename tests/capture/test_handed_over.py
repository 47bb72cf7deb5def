"""Recordings that change hands: no two are open at once, and none of what began in one ends in the next: both kill processes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tests.capture.programs import PRELUDE, TAKES_OVER, TRACE, ours, read, with_and_without
from tests.capture.test_run_script import RUN
from tests.capture.zygote import Zygote

# A process of many objects: the search for other profilers takes its time, in which other threads run.
SLOW_SEARCH = """
import time
from mfu_doctor.capture.profiler import other_profilers
search = other_profilers.active_profiler
def searching():
    reason = search()
    time.sleep(0.2)
    return reason
other_profilers.active_profiler = searching
"""


@pytest.mark.parametrize("at", [9, 16, 17, 18])
def test_a_block_takes_over_whatever_the_recorder_is_about(zygote: Zygote, tmp_path: Path, at: int) -> None:
    (tmp_path / "own.py").write_text(PRELUDE + TAKES_OVER.replace("AT", str(at)))
    ran = zygote.run(SLOW_SEARCH + RUN, tmp_path, "script", "own.py")
    assert (ran.code, ran.err) == (0, "")
    assert read(tmp_path / "own.pt.trace.json.gz").facts.windows[0].steps == 5
    assert not list(tmp_path.glob(f"{TRACE}*"))


def test_a_thread_that_does_not_let_go_is_recorded_on(zygote: Zygote, tmp_path: Path) -> None:
    source = """
def work():
    with block("own.pt.trace.json.gz", print_report=True) as doctor: train(x, y)
for i, (x, y) in enumerate(loader(24)):
    train(x, y)
    if i == 15:  # in a recorded step
        thread = threading.Thread(target=work)
        thread.start(); thread.join()
"""
    (tmp_path / "own.py").write_text(PRELUDE + source)
    ran = zygote.run(RUN, tmp_path, "script", "own.py")
    assert ran.code == 0, ran.err
    assert "another profile() is already active at own.py: the one at own.py:17 records nothing" in ran.err
    assert not (tmp_path / "own.pt.trace.json.gz").exists()
    assert [(window.kind, window.steps) for window in read(tmp_path / TRACE).facts.windows] == [
        ("timing", 5),
        ("shapes", 1),
    ]


SPANS = """
from torch.profiler import record_function
spans = [record_function(f"epoch {i}") for i in range(40)]
"""
# The spans begin in a step that is recorded, and end where another recording runs.
LONG = {
    "into the next window": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 16:
            for span in spans: span.__enter__()
        if i == 19:
            for span in reversed(spans): span.__exit__(None, None, None)
        train(x, y)
""",
    "into a profiler of the program": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 15:
            for span in spans: span.__enter__()
            profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            profiler.start()
        if i == 17:
            for span in reversed(spans): span.__exit__(None, None, None)
            profiler.stop()
            print("loss", sum(event.name.startswith("epoch") for event in profiler.events()))
        train(x, y)
""",
    "into the next window, under a mode of the program": """
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter, block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 16:
            for span in spans: span.__enter__()
        if i == 19:
            for span in reversed(spans): span.__exit__(None, None, None)
        train(x, y)
print("loss", counter.get_total_flops())
""",
}


@pytest.mark.parametrize("name", LONG)
def test_a_span_ends_in_the_recording_that_it_began_in(zygote: Zygote, tmp_path: Path, name: str) -> None:
    watched, _ = with_and_without(zygote, tmp_path, SPANS + LONG[name].replace("", ""))
    assert watched.code == 0, watched.err
    spans = ours(tmp_path).named("epoch 0")
    assert [span["dur"] > 0 for span in spans] == [True]


def test_a_thread_that_is_in_its_step_when_the_block_ends_stops_the_profiler_later(
    zygote: Zygote, tmp_path: Path
) -> None:
    body = """

held, ended = threading.Event(), threading.Event()
def work():
    for i, (x, y) in enumerate(loader(24)):
        if i == 15:
            held.set(); ended.wait()
        train(x, y)
        if i == 15: print("loss", torch._C._autograd._profiler_enabled())
thread = threading.Thread(target=work)
with block() as doctor:
    thread.start()
    held.wait()
ended.set()
thread.join()
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err  # libkineto complains there about the thread
    assert ours(tmp_path).facts.timed_steps_s
    assert any("in a step when the block ended" in note for note in ours(tmp_path).facts.notes)


def test_the_search_for_objects_leaves_those_alone_that_other_threads_build() -> None:
    """Python resizes a tuple that it builds from an iterator: only if nothing else refers to it."""
    from mfu_doctor.capture.loop.living import living

    failures: list[SystemError] = []
    over = threading.Event()

    def build() -> None:
        while not over.is_set():
            try:
                tuple(number for number in range(300))
            except SystemError as error:
                failures.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        found = [living(threading.Thread) for _ in range(20)]
    finally:
        sys.setswitchinterval(interval)
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert all(set(threads) <= set(each) for each in found)
