"""`@profile()` above a function that trains, and `start()` and `stop()`: blocks like those of a `with` statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mfu_doctor
from mfu_doctor.errors import DoctorError
from tests.capture.programs import TRACE, read, with_and_without
from tests.capture.zygote import Zygote

AS_DECORATOR = """
doctor = block()
def decorated(function): return function if PLAIN else doctor(function)
@decorated
def fit(steps, *, scale):
    "Trains."
    for x, y in loader(steps): train(x * scale, y)
    return model
"""

# How the function is called, and how often each of its steps is in the file.
CALLS = {
    "once": ("print('loss', fit(24, scale=2) is model, fit.__name__, fit.__doc__, fit.__module__)", 24),
    "twice": ("fit(24, scale=2); fit(30, scale=1)", 30),
    "inside of itself": (
        """
@decorated
def outer():
    fit(24, scale=1)
    for x, y in loader(3): train(x, y)
outer()
""",
        27,
    ),
    "with an exception": (
        """
@decorated
def failing():
    fit(24, scale=1)
    raise ValueError("mine")
try: failing()
except ValueError as error: print("loss", error)
""",
        24,
    ),
    "started": ("if not PLAIN: doctor.start()\nfit(24, scale=1)\nif not PLAIN: doctor.stop(); doctor.stop()", 24),
    "started and never stopped": ("if not PLAIN: doctor.start()\nfit(24, scale=1)", 24),
    "stopped without a start": ("if not PLAIN: doctor.stop()\nfit(24, scale=1)", 24),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_a_block(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body, steps = CALLS[name]
    watched, _ = with_and_without(zygote, tmp_path, AS_DECORATOR + body)
    assert (watched.code, watched.err) == (0, "")
    facts = read(tmp_path / "ours" / TRACE).facts
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
    assert facts.whole_run is not None
    assert facts.whole_run.steps == steps
    assert facts.site == "program.py:17"


THREADS = """
import threading
both = threading.Barrier(2)
own = {}
@decorated
def work(name):
    both.wait()
    mine = nn.Linear(8, 4)
    for p in mine.parameters(): nn.init.constant_(p, 0.5)
    steps = torch.optim.SGD(mine.parameters(), lr=0.1)
    for _ in range(24):
        loss = mine(torch.ones(2, 8)).square().mean(); loss.backward(); steps.step(); steps.zero_grad()
    own[name] = loss.item().hex()
    both.wait()
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("loss", own["a"], own["b"])
"""


def test_two_threads_in_one_decorated_function_train_as_they_do_alone(zygote: Zygote, tmp_path: Path) -> None:
    watched, _ = with_and_without(zygote, tmp_path, AS_DECORATOR + THREADS)
    assert watched.code == 0, watched.err
    assert "Traceback" not in watched.err
    assert (tmp_path / "ours" / TRACE).is_file()


def test_a_disabled_one_calls_the_function(tmp_path: Path) -> None:
    @mfu_doctor.profile(tmp_path / "none.json.gz", enabled=False)
    def double(x: int) -> int:
        return 2 * x

    assert double(2) == 4
    assert list(tmp_path.iterdir()) == []


async def later() -> None: ...


async def several() -> AsyncIterator[int]:
    yield 1


def batches() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (later, "it is a coroutine, which returns before it trains"),
        (several, "it is an asynchronous generator, which returns before it trains"),
        (batches, "it is a generator, which returns before it trains"),
        (dict, "decorates a function that trains, not dict"),
        (3, "decorates a function that trains, not int"),
    ],
)
def test_what_is_no_function_that_trains_is_refused_in_a_sentence(function: Any, said: str) -> None:
    with pytest.raises(DoctorError, match=said):
        mfu_doctor.profile()(function)


def test_forgotten_parentheses_are_told() -> None:
    bare: Callable[[Any], Any] = mfu_doctor.profile
    with pytest.raises(DoctorError, match="profile is called before it decorates"):

        @bare
        def train() -> None: ...


def test_a_recording_that_cannot_begin_leaves_the_program_alone(zygote: Zygote, tmp_path: Path) -> None:
    body = """
if not PLAIN:
    from mfu_doctor.session import recorder
    def fails(*_): raise OSError("no memory")
    own, recorder.Capture = recorder.Capture, fails
for number in range(2):
    with block(print_report=True) as doctor:
        for x, y in doctor.batches(loader(24)): train(x, y)
    if not PLAIN:
        print(doctor.report, doctor.path, doctor.notes)
        recorder.Capture = own
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    assert "None None ('the recording could not begin: OSError: no memory',)" in watched.out
    assert watched.err.startswith("mfu-doctor: the recording could not begin: OSError: no memory\n")
    assert read(tmp_path / "ours" / TRACE).facts.windows[0].steps == 5
