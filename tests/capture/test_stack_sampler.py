"""The sampled positions of the training thread: its line, the library that runs for it, and its CPU time."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.loop import stack_sampler
from mfu_doctor.capture.loop.stack_sampler import StackSampler
from mfu_doctor.capture.loop.user_functions import UserFunctions
from mfu_doctor.capture.loop.where import package_of
from mfu_doctor.facts import FrameSample
from tests.patience import LONGEST_S


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("/venv/lib/python3.12/site-packages/torch/nn/modules/module.py", "torch"),
        ("/usr/lib/python3/dist-packages/numpy/_core/fromnumeric.py", "numpy"),
        ("/usr/lib/python3.12/json/encoder.py", "json"),
        ("/usr/lib/python3.12/random.py", "random"),
        ("C:\\venv\\lib\\python3.12\\site-packages\\torch\\_tensor.py", "torch"),
        ("/home/me/train.py", None),
    ],
)
def test_the_package_of_a_file(file: str, package: str | None) -> None:
    assert package_of(file) == package


def sampled(body: str, place: str, library: str | None = None) -> tuple[FrameSample, ...]:
    """Samples of this thread while it runs a program of the user, until three of them saw it here."""
    sampler = StackSampler(threading.get_ident(), Path("/home/me"))
    until = time.monotonic() + LONGEST_S

    def enough() -> bool:
        here = sum(s.place == place and s.library == library for s in sampler._samples)
        return here >= 3 or time.monotonic() > until

    scope = {"enough": enough, "json": json}
    code = compile(body, "/home/me/train.py", "exec")
    sampler.start()
    exec(code, scope)
    return sampler.stop()


def test_a_line_of_the_users_own_has_no_library_and_its_thread_has_a_clock() -> None:
    samples = sampled("while not enough():\n    sum(range(10_000))\n", "train.py:2")
    assert any(s.place == "train.py:2" and s.library is None for s in samples)
    clock = [s.cpu_ns for s in samples]
    assert all(ns is not None for ns in clock) or all(ns is None for ns in clock)  # some systems have no such clock
    known = [ns for ns in clock if ns is not None]
    assert known == sorted(known)


def test_the_library_that_runs_for_a_line_is_told() -> None:
    body = "big = list(range(200_000))\nwhile not enough():\n    json.dumps(big, indent=1)\n"
    samples = sampled(body, "train.py:3", "json")
    assert any(s.place == "train.py:3" and s.library == "json" for s in samples)


def looked(monkeypatch: pytest.MonkeyPatch, times: int) -> tuple[list[float], int]:
    """The waits before so many samples, in seconds, and how many samples are kept."""
    sampler, waits = StackSampler(threading.get_ident(), None), list[float]()

    def at_once(period_s: float) -> float:
        waits.append(period_s)
        if len(waits) > times:
            sampler._stop.set()
        return 0.0

    monkeypatch.setattr(stack_sampler, "irregular", at_once)
    sampler._run()
    return waits[:times], len(sampler._samples)


def test_a_window_of_a_few_short_steps_has_some_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, kept = looked(monkeypatch, times=10)
    assert sum(waits) <= 0.030  # five steps of 6 ms
    assert kept == 10


def test_a_long_window_is_sampled_evenly_and_fifty_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, kept = looked(monkeypatch, times=200)
    assert waits == sorted(waits)
    assert waits[-1] == 0.02
    assert kept < len(waits)  # of the quick ones only as many as come at that rate
    assert kept * 0.02 == pytest.approx(sum(waits), rel=0.1)


FUNCTIONS = """
import random

def draw():
    return [random.random() for _ in range(2)]

class Tiles:
    def filters(self):
        sum(range(10_000))

    def __getitem__(self, index):
        self.filters()

while not enough():
    Tiles()[0]
"""


def test_the_functions_around_a_line_are_told_innermost_first() -> None:
    samples = sampled(FUNCTIONS, "train.py:9")
    here = next(sample for sample in samples if sample.place == "train.py:9")
    assert [(one.name, one.place, one.draws) for one in here.within[:2]] == [
        ("Tiles.filters", "train.py:8", False),
        ("Tiles.__getitem__", "train.py:11", False),
    ]


def test_a_function_that_names_what_draws_is_known_to_draw() -> None:
    scope: dict[str, Any] = {"look": lambda: UserFunctions(lambda file: file).on(sys._getframe(1))}
    exec(FUNCTIONS.partition("class")[0].replace("random.random()", "(random.random(), look())[1]"), scope)
    assert [(one.name, one.draws) for one in scope["draw"]()[0]][:1] == [("draw", True)]
