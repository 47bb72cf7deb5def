"""The sampled positions of the training thread: its line, the library that runs for it, and its CPU time."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from mfu_doctor.capture.loop.stack_sampler import StackSampler
from mfu_doctor.capture.loop.where import package_of
from mfu_doctor.facts import FrameSample

_PATIENCE_S = 20.0  # a sample takes 20 ms; the test ends with the first ones


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


def sampled(body: str) -> tuple[FrameSample, ...]:
    """Samples of this thread while it runs a program of the user, until there are three."""
    sampler = StackSampler(threading.get_ident(), Path("/home/me"))
    until = time.monotonic() + _PATIENCE_S
    scope = {"enough": lambda: len(sampler._samples) >= 3 or time.monotonic() > until, "json": json}
    code = compile(body, "/home/me/train.py", "exec")
    sampler.start()
    exec(code, scope)
    return sampler.stop()


def test_a_line_of_the_users_own_has_no_library_and_its_thread_has_a_clock() -> None:
    samples = sampled("while not enough():\n    sum(range(10_000))\n")
    assert any(s.place == "train.py:2" and s.library is None for s in samples)
    clock = [s.cpu_ns for s in samples]
    assert all(ns is not None for ns in clock) or all(ns is None for ns in clock)  # some systems have no such clock
    known = [ns for ns in clock if ns is not None]
    assert known == sorted(known)


def test_the_library_that_runs_for_a_line_is_told() -> None:
    body = "big = list(range(200_000))\nwhile not enough():\n    json.dumps(big, indent=1)\n"
    samples = sampled(body)
    assert any(s.place == "train.py:3" and s.library == "json" for s in samples)
