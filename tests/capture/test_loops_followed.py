"""The loop that trains now is the one that is recorded: programs as people write them, with the FLOPs that they must give."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL
from mfu_doctor.facts import Schedule
from mfu_doctor.reading import read_trace
from tests.capture.programs import BY_HAND, STEP, TRACE, Written, ours, with_and_without
from tests.capture.zygote import Zygote

ELEMENTS = 8 * 16 + 16 + 16 * 4 + 4

FOLLOWED = {
    "evaluation on another loader, with gradients enabled": (
        """
with block() as doctor:
    held_out = loader(9)
    for i, (x, y) in enumerate(loader(60)):
        train(x, y)
        if i % 20 == 19:
            for x, y in held_out:
                with torch.no_grad():
                    forward(x, y)
""",
        "optimizer",
        STEP,
    ),
    "evaluation without a loader in the step that is recorded with shapes": (
        """
@torch.no_grad()
def estimate():
    for _ in range(30): forward(torch.ones(16, 8), torch.arange(16) % 4)
with block() as doctor:
    for i in range(60):
        if i % 19 == 0: estimate()
        train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
""",
        "optimizer",
        STEP,
    ),
    "folds of eight steps, each with a new model and a new optimizer": (
        """
import copy
kept, first = [], copy.deepcopy(model)
with block() as doctor:
    for fold in range(10):
        model = copy.deepcopy(first)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        kept.append(optimizer)
        for i in range(8):
            train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
""",
        "optimizer",
        STEP,
    ),
    "a sweep whose first trials are short": (
        """
def trial(width, steps):
    global model, optimizer
    model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for i in range(steps):
        train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
with block() as doctor:
    for width, steps in ((2, 7), (4, 9), (16, 60)): trial(width, steps)
""",
        "optimizer",
        STEP,
    ),
    "two optimizers in phases": (
        """
critic = nn.Linear(8, 4)
own = torch.optim.SGD(critic.parameters(), lr=0.1)
with block() as doctor:
    for i in range(9):
        critic(torch.ones(4, 8)).sum().backward()
        own.step()
    for x, y in loader(40):
        train(x, y)
""",
        "optimizer",
        STEP,
    ),
    "a step that accumulates more gradients than steps are recorded": (
        """
with block() as doctor:
    for i, (x, y) in enumerate(loader(30 * 25)):
        (forward(x, y) / 30).backward()
        if i % 30 == 29:
            optimizer.step()
            optimizer.zero_grad()
""",
        "optimizer",
        30 * STEP,
    ),
    "gradient descent by hand": (
        """
del optimizer
with block() as doctor:
"""
        + BY_HAND,
        "backward",
        STEP,
    ),
    "gradients asked for, without a loader": (
        """
del optimizer
with block() as doctor:
    for i in range(40):
        loss = forward(torch.full((4, 8), float(i)).sin(), torch.arange(4))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients): p -= 0.01 * g
        print("loss", loss.item().hex())
""",
        "backward",
        STEP,
    ),
    "training in a thread": (
        """
def work():
    for x, y in loader(40): train(x, y)
with block() as doctor:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
""",
        "optimizer",
        STEP,
    ),
    "generation, one call of the model for each token": (
        """
del optimizer
@torch.no_grad()
def generate(x, tokens):
    for _ in range(tokens): x = torch.nn.functional.pad(model(x), (0, 4))
    print("loss", x.sum().item().hex())
with block() as doctor:
    for prompt in range(4): generate(torch.ones(4, 8) * prompt, 20)
""",
        "module call",
        2 * 4 * (8 * 16 + 16 * 4),
    ),
    "all batches are loaded before the training": (
        """
with block() as doctor:
    batches = list(loader(60))
    for x, y in batches: train(x, y)
""",
        "optimizer",
        STEP,
    ),
    "batches of two loaders": (
        """
with block() as doctor:
    for (x, y), (u, _) in zip(loader(40), loader(40)):
        model(u).sum().backward()
        train(x, y)
""",
        "optimizer",
        2 * STEP,
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_loop_that_trains_is_recorded(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body, source, flops = FOLLOWED[name]
    ended, _ = with_and_without(zygote, tmp_path, body)
    assert ended.code == 0, ended.err
    written = ours(tmp_path)
    assert written.facts.step_source == source
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 5), ("shapes", 1)]
    assert flops_of(tmp_path) == {flops}
    assert written.facts.parameter_elements == (ELEMENTS if source == "optimizer" else None)
    assert other_work(written) == (name.startswith("evaluation without"))


def flops_of(folder: Path) -> set[int]:
    """FLOP of the recorded steps."""
    counted = Run(read_trace(folder / "ours" / TRACE)).flops
    return set(counted.tally[..., MODEL].sum(axis=(1, 2)).tolist())


def other_work(written: Written) -> bool:
    """Whether a note says that the step with shapes did other work."""
    return any(note.startswith("the step recorded with shapes did other work") for note in written.facts.notes)


def test_evaluation_is_not_counted_as_loading(zygote: Zygote, tmp_path: Path) -> None:
    """The loader of the evaluation has the settings of the other one, and is fetched from more often."""
    body = """
with block() as doctor:
    for i, (x, y) in enumerate(loader(60)):
        train(x, y)
        if i % 10 == 9:
            for x, y in loader(30):
                with torch.no_grad(): forward(x, y)
"""
    with_and_without(zygote, tmp_path, body)
    (found,) = ours(tmp_path).facts.loaders
    assert found.fetches <= 26
    assert ours(tmp_path).facts.micro_batches == 1.0


def test_two_loaders_side_by_side_make_as_many_steps_as_one_of_them_has_batches(zygote: Zygote, tmp_path: Path) -> None:
    """22 steps, not 11: the schedule of twenty need not be shortened."""
    body = """
with block() as doctor:
    for (x, y), (u, _) in zip(loader(22), loader(22)):
        model(u).sum().backward()
        train(x, y)
"""
    with_and_without(zygote, tmp_path, body)
    facts = ours(tmp_path).facts
    assert facts.recorded == facts.asked == Schedule(skip=5, timed=5, warmup=3, active=5)
    assert not any(note.startswith("the data loader has") for note in facts.notes)


def test_a_recorded_trial_is_not_mixed_with_the_next_one(zygote: Zygote, tmp_path: Path) -> None:
    body = """
def trial(width):
    global model, optimizer
    model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for x, y in loader(12): train(x, y)
with block() as doctor:
    for width in (16, 32, 64): trial(width)
"""
    with_and_without(zygote, tmp_path, body)
    assert flops_of(tmp_path) == {STEP}
    assert ours(tmp_path).facts.parameter_elements == ELEMENTS


def test_a_parameter_of_two_optimizers_is_counted_once(zygote: Zygote, tmp_path: Path) -> None:
    body = """
other = torch.optim.SGD(model[0].parameters(), lr=0.1)
with block() as doctor:
    for x, y in loader(24):
        forward(x, y).backward()
        other.step()
        train(x, y)
"""
    with_and_without(zygote, tmp_path, body)
    assert ours(tmp_path).facts.parameter_elements == ELEMENTS


def test_a_compiled_training_step_is_compiled_as_without_us(zygote: Zygote, tmp_path: Path) -> None:
    body = """
import warnings
warnings.simplefilter("ignore")  # Dynamo's own, about torch.jit
from torch._dynamo.utils import counters
@torch.compile(backend="eager")
def step(x, y):
    loss = forward(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
with block() as doctor:
    for x, y in loader(24): step(x, y)
print("loss", counters["stats"], sum(counters["graph_break"].values()), counters["frames"]["total"])
"""
    with_and_without(zygote, tmp_path, body)
