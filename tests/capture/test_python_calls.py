"""How many functions a step calls from Python decides whether its source lines are recorded, and how many steps."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.profiler.python_calls import PythonCalls
from tests.capture.programs import LOOP, ours, with_and_without
from tests.capture.zygote import Zygote


def own(x: int) -> int:
    return abs(x)


def counted(times: int, most: int = 1000) -> tuple[int | None, Any]:
    """What is counted of so many calls of a function that calls another one, and who profiles at their end.

    No collection of garbage comes between: other tests' libraries have Python called for it.
    """
    calls = PythonCalls(most)
    gc.disable()
    try:
        calls.start()
        for x in range(times):
            own(x)
        at_end = sys.getprofile()
        calls.stop()
    finally:
        gc.enable()
    return calls.counted, at_end


def test_calls_of_python_and_of_c_are_counted() -> None:
    few, many = counted(10)[0], counted(60)[0]
    assert few is not None
    assert many is not None
    assert many - few == 100


def test_no_more_are_counted_than_matter() -> None:
    assert counted(2000) == (1001, None)
    assert sys.getprofile() is None


def test_a_profile_function_of_the_programs_is_left_alone() -> None:
    def mine(*_: object) -> None: ...

    sys.setprofile(mine)
    try:
        assert counted(10) == (None, mine)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)


def test_one_that_comes_meanwhile_stays_and_ours_goes_if_it_is_put_back() -> None:
    def mine(*_: object) -> None: ...

    calls = PythonCalls(1000)
    calls.start()
    former = sys.getprofile()
    sys.setprofile(mine)
    calls.stop()
    assert (sys.getprofile(), calls.counted) == (mine, None)
    sys.setprofile(former)
    own(1)
    assert sys.getprofile() is None


def test_another_thread_that_ends_the_count_takes_off_nothing_of_its_own() -> None:
    calls = PythonCalls(1000)
    calls.start()
    other = threading.Thread(target=calls.stop)
    other.start()
    other.join()
    assert not calls.counting
    own(1)
    assert (sys.getprofile(), calls.counted) == (None, None)


HEAVY = LOOP.replace(
    "        train(x, y)",
    """        train(x, y)
        print("loss", sum(map(ord, "".join(chr(97 + CALLS % 7) for _ in range(CALLS)))))""",
)


@pytest.mark.parametrize(("calls", "lines"), [(1_000, True), (100_000, False)])
def test_a_step_that_is_mostly_python_has_no_source_lines(
    zygote: Zygote, tmp_path: Path, calls: int, *, lines: bool
) -> None:
    """Its three calls of each round would each be an event: gigabytes for a step of a second."""
    body = HEAVY.replace("CALLS", str(calls))
    with_and_without(zygote, tmp_path, body)
    written = ours(tmp_path)
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 5), ("shapes", 1)]
    assert any(event.get("cat") == "python_function" for event in written.events) == lines
    said = "no source lines of operators: a step calls more than 200000 functions from Python"
    assert (said in written.facts.notes) == (not lines)
