"""Times and losses of steps without a profiler: what a loop did, whatever the precision, and nothing left behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from tests.capture.programs import PRELUDE
from tests.capture.zygote import Zygote

OBSERVED = """
import json
from mfu_doctor.capture.loop.losses import value_of
from mfu_doctor.capture.loop.step_observer import StepObserver

steps, losses = [], []
def each(took_ns, waited_ns):
    steps.append((took_ns, waited_ns))
    losses.append(value_of(observer.losses.take()))
    observer.losses.wanted = len(steps) % 2 == 0

observer = StepObserver(each)
"""

TOLD = """
print(json.dumps({"steps": steps, "losses": losses, "notes": observer.notes.said}))
"""

LOOP = """
observer.losses.wanted = True
observer.start()
expected = []
for x, y in loader(6):
    loss = forward(x, y)
    expected.append(loss.item())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.01)
observer.stop()
assert losses == [expected[0], None, expected[2], None, expected[4], None], (losses, expected)
"""

SCALED = """
observer.losses.wanted = True
observer.start()
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
expected = []
for x, y in loader(3):
    loss = forward(x, y)
    expected.append(loss.item())
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
observer.stop()
assert losses == [expected[0], None, expected[2]], (losses, expected)
"""

NO_NUMBER = """
observer.losses.wanted = True
observer.start()
for x, y in loader(3):
    out = model(x)
    out.backward(torch.ones_like(out))
    optimizer.step()
observer.stop()
assert losses == [None, None, None], losses
"""

LEFT = """
from torch.optim.optimizer import _global_optimizer_post_hooks as post_hooks
from torch.utils.data.dataloader import _BaseDataLoaderIter
from torch.amp import GradScaler
def state():
    return (torch.autograd._engine_run_backward, _BaseDataLoaderIter.__next__, GradScaler.scale, GradScaler.step,
            len(post_hooks))
before = state()
observer.start()
for x, y in loader(3):
    train(x, y)
observer.stop()
observer.stop()
assert state() == before
"""


@dataclass(frozen=True, slots=True)
class Observed:
    """What an observer saw of a loop: what each step took and waited in nanoseconds, and what it said."""

    steps: list[tuple[int, int]]
    losses: list[float | None]
    notes: list[str]


def observed(zygote: Zygote, folder: Path, body: str) -> Observed:
    """Run a loop with an observer."""
    ended = zygote.run(PRELUDE + OBSERVED + body + TOLD, folder)
    assert ended.code == 0, ended.err
    return Observed(**json.loads(ended.out.splitlines()[-1]))


def test_every_step_is_timed_and_the_losses_that_are_wanted_are_read(zygote: Zygote, tmp_path: Path) -> None:
    seen = observed(zygote, tmp_path, LOOP)
    assert len(seen.steps) == 6
    *before, _last = seen.steps  # the last one ends with its optimizer step
    assert all(took >= 10_000_000 and 0 < waited < took for took, waited in before)
    assert not seen.notes


def test_a_loss_is_the_one_before_the_scaler_multiplied_it(zygote: Zygote, tmp_path: Path) -> None:
    assert len(observed(zygote, tmp_path, SCALED).steps) == 3


def test_what_is_no_number_is_no_loss(zygote: Zygote, tmp_path: Path) -> None:
    assert len(observed(zygote, tmp_path, NO_NUMBER).steps) == 3


def test_an_observer_leaves_nothing_behind(zygote: Zygote, tmp_path: Path) -> None:
    assert len(observed(zygote, tmp_path, LEFT).steps) == 3
