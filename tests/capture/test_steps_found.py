"""Steps are found in loops of every shape; each loop is a real one, and counts the steps that a person would count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.programs import DRAWN_CLOCK, ours, with_and_without
from tests.capture.zygote import Zygote

# Program, where its steps come from, fetches per step; every one makes 24 steps or more.
LOOPS = {
    "gradient accumulation": (
        """
with block() as doctor:
    for i, (x, y) in enumerate(loader(96)):
        (forward(x, y) / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
""",
        "optimizer",
        4.0,
    ),
    "two optimizers, as in a GAN": (
        """
other = torch.optim.SGD(model[0].parameters(), lr=0.1)
with block() as doctor:
    for x, y in loader(24):
        forward(x, y).backward()
        other.step()
        train(x, y)
""",
        "optimizer",
        1.0,
    ),
    "one optimizer for each parameter, stepping in the backward pass": (
        """
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
def step(p):
    optimizers[p].step()
    optimizers[p].zero_grad()
for p in model.parameters():
    p.register_post_accumulate_grad_hook(step)
with block() as doctor:
    for x, y in loader(24):
        forward(x, y).backward()
""",
        "optimizer",
        1.0,
    ),
    "a gradient scaler that skips steps": (
        """
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=1000)
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        loss = forward(x, y) * (float("inf") if i % 3 == 0 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        print("loss", loss.item().hex())
""",
        "optimizer",
        1.0,
    ),
    "an optimizer with a closure": (
        """
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
with block() as doctor:
    for x, y in loader(24):
        def closure():
            optimizer.zero_grad()
            loss = forward(x, y)
            loss.backward()
            return loss
        print("loss", optimizer.step(closure).item().hex())
""",
        "optimizer",
        1.0,
    ),
    "a compiled step": (
        """
import warnings
warnings.simplefilter("ignore")  # Dynamo's own, about torch.jit
from torch._dynamo.utils import counters
optimizer.step = torch.compile(optimizer.step, backend="eager")
model.compile(backend="eager")
with block() as doctor:
    for x, y in loader(24):
        train(x, y)
print("loss", counters["stats"], counters["graph_break"])  # the same graphs with and without us
""",
        "optimizer",
        1.0,
    ),
    "a loop without a data loader": (
        """
with block() as doctor:
    for i in range(24):
        train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
""",
        "optimizer",
        None,
    ),
    "step() over everything": (
        """
with block() as doctor:
    for x, y in loader(48):
        train(x, y)
        if len(seen := globals().setdefault("seen", [])) % 2: doctor.step()
        seen.append(1)
""",
        "step()",
        2.0,
    ),
    "batches() of a generator, no optimizer": (
        """
def numbers():
    for i in range(24):
        yield torch.full((4, 8), float(i))
with block() as doctor:
    for x in doctor.batches(numbers()):
        print("loss", model(x).sum().item().hex())
""",
        "fetch",
        1.0,
    ),
    "inference over a data loader": (
        """
with block() as doctor, torch.no_grad():
    for x, y in loader(24):
        print("loss", forward(x, y).item().hex())
""",
        "fetch",
        1.0,
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_steps_are_those_a_person_would_count(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body, source, fetches = LOOPS[name]
    ended, _ = with_and_without(zygote, tmp_path, body)
    assert ended.code == 0, ended.err
    written = ours(tmp_path)
    facts = written.facts
    assert facts.step_source == source
    assert facts.micro_batches == fetches
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)]
    assert written.steps == [13, 14, 15, 16, 17, 19]
    assert facts.notes == ()


def test_batches_keeps_the_length_and_marks_fetches(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    batches = doctor.batches([(torch.ones(4, 8) * i, torch.arange(4)) for i in range(24)])
    assert len(batches) == 24
    for x, y in batches:
        train(x, y)
    assert [float(x[0, 0]) for x, y in doctor.batches(loader(3))]  # after the schedule: untouched
"""
    with_and_without(zygote, tmp_path, body)
    written = ours(tmp_path)
    assert len(written.named("mfu_doctor.fetch")) == 6
    assert written.facts.loaders[0].class_name == "list_iterator"


def test_validation_between_epochs_is_in_no_step(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    for epoch in range(40):
        for x, y in loader(5):
            train(x, y)
            passes(0.01)
        with torch.no_grad():
            for x, y in loader(7):
                forward(x, y)
                passes(0.025)
"""
    with_and_without(zygote, tmp_path, DRAWN_CLOCK + body)
    facts = ours(tmp_path).facts
    assert facts.step_source == "optimizer"
    assert facts.timed_steps_s
    assert max(facts.timed_steps_s) < 0.1, facts.timed_steps_s  # validation takes 0.175 s
    assert facts.windows[0].steps >= 1


def test_a_step_after_an_epoch_that_ends_in_the_window_keeps_its_mark(zygote: Zygote, tmp_path: Path) -> None:
    """A stream of batches does not foretell its end: the mark that was opened there is no step's, and the next one is.

    Both once had the same number and were taken out together: the step before seemed to take as long as two.
    """
    body = """
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(15 * 4): yield torch.full((8,), float(i)).sin(), i % 4
with block() as doctor:
    for epoch in range(4):
        for x, y in DataLoader(Stream(), batch_size=4):
            train(x, y)
"""
    with_and_without(zygote, tmp_path, body)
    written = ours(tmp_path)
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 5), ("shapes", 1)]
    assert written.steps == [13, 14, 16, 17, 18, 20]
    assert len(written.named("mfu_doctor.unfinished_step")) == 1


def test_a_block_without_any_sign_of_steps_is_one_step_and_says_so(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    for i in range(3): torch.nn.functional.gelu(torch.ones(4, 8))
"""
    with_and_without(zygote, tmp_path, body)
    facts = ours(tmp_path).facts
    assert facts.step_source == "block"
    assert len(facts.timed_steps_s) == 1
    assert "all code inside profile() is treated as one step" in facts.notes[0]


def test_a_block_can_be_recorded_whole(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block(skip=0, timed=0, warmup=0, active=1) as doctor:
    for i in range(3): torch.nn.functional.gelu(torch.ones(4, 8))
"""
    with_and_without(zygote, tmp_path, body)
    written = ours(tmp_path)
    assert written.steps == [0]
    assert len(written.named("aten::gelu")) == 3
    assert written.facts.windows[0].steps == 1


def test_disabled_and_misused_recorders(zygote: Zygote, tmp_path: Path) -> None:
    body = """
import mfu_doctor
with block(enabled=False) as doctor:
    for x, y in doctor.batches(loader(3)):
        train(x, y)
        doctor.step()
assert doctor.report is None and doctor.path is None and doctor.notes == ()
for wrong in ({"active": 0}, {"skip": -1}, {"peak_flops": 0}, {"peak_flops": 989.5}, {"model_flops": float("nan")}):
    try:
        mfu_doctor.profile(**wrong)
    except mfu_doctor.DoctorError as error:
        print(error)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.out.count(" is not ") == 5
    assert not list((tmp_path / "ours").glob("*.gz"))
