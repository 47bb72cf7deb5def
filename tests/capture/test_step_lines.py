"""Looks at the lines of the steps: few are kept, and the short steps of a run are compared with its long ones."""

from __future__ import annotations

import sys
import threading
from types import FrameType

from mfu_doctor.capture.loop.step_lines import StepLines
from mfu_doctor.capture.loop.step_times import StepTimes
from mfu_doctor.capture.loop.where import Line, line_of

MS = 1_000_000


def here(file: str) -> str | None:
    return "mine.py" if file == __file__ else None


def train() -> FrameType:
    return sys._getframe()


def score() -> FrameType:
    return sys._getframe()


def seconds(lines: StepLines, times: StepTimes) -> dict[int, tuple[float, float]]:
    course = lines.course(times, 0)
    assert course is not None
    return {int(line.place.rpartition(":")[2]): (line.short_s, line.long_s) for line in course.lines}


def test_the_line_that_grows_is_told_from_the_one_that_stays() -> None:
    """The score takes one millisecond more with each ten steps, training always 20."""
    lines, times = StepLines(here, "/own/"), StepTimes()
    for step in range(300):
        lines.look(train(), step, 20 * MS)
        lines.look(score(), step, step // 10 * MS)
        times.add((20 + step // 10) * MS, 0)
    (stays, grows) = sorted(seconds(lines, times).items())
    assert [round(s * 1e3, 1) for s in stays[1]] == [20.0, 20.0]
    assert [round(s * 1e3) for s in grows[1]] == [4, 24]


def test_a_long_run_keeps_some_looks_of_all_its_steps() -> None:
    lines, times = StepLines(here, "/own/"), StepTimes()
    for step in range(50_000):
        lines.look(train() if step % 3 else score(), step, MS)
        times.add(MS, 0)
    assert len(lines._looks) <= 4096
    assert min(step for step, _, _ in lines._looks) < 100
    assert max(step for step, _, _ in lines._looks) > 49_900
    shares = [long / 0.001 for _, long in seconds(lines, times).values()]
    assert sorted(round(part, 1) for part in shares) == [0.3, 0.7]


def test_a_few_looks_tell_nothing_about_lines() -> None:
    lines, times = StepLines(here, "/own/"), StepTimes()
    for step in range(30):
        lines.look(train(), step, MS)
        times.add(MS, 0)
    assert seconds(lines, times) == {}


def test_a_line_is_named_with_the_function_of_a_library_that_it_called() -> None:
    """A thread waits in the library of Python for threads."""
    told: list[Line | None] = []
    ready, done = threading.Event(), threading.Event()

    def work() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    while not told or told[-1] is None or told[-1].function is None:
        told.append(line_of(sys._current_frames().get(thread.ident or 0), "/own/", here))
    done.set()
    thread.join()
    assert told[-1] is not None
    assert told[-1].call == "threading.wait"
