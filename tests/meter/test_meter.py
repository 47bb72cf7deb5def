"""What a meter reads off real training loops, and that the loops do not notice it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from tests.capture.programs import DRAWN_CLOCK, PRELUDE, STEP
from tests.capture.zygote import Zygote

METERED = """
import json
import mfu_doctor
told = []

def read(**given):
    got = meter.step(**given)
    told.append({"step": got.step, "window": got.window, "time": got.step_time, "wait": got.data_wait, "mfu": got.mfu,
                 "flops": got.flops_per_step, "samples": got.samples_per_second, "tokens": got.tokens_per_second,
                 "memory": got.memory_peak_bytes, "counted": got.counted, "reasons": got.reasons, "text": str(got)})
    return got
"""
TOLD = """
print("told", json.dumps({"readings": told, "notes": list(meter.notes)}))
"""

LOOP = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for x, y in loader(12):
    train(x, y)
    time.sleep(0.002)
    read()
"""

ALONE = """
for x, y in loader(12):
    train(x, y)
"""

# Batches of eight and four in turn.
IN_TURN = """
meter = mfu_doctor.Meter(model, peak_flops=1e9, window=1)
inputs = torch.arange(480 * 8, dtype=torch.float32).reshape(-1, 8).sin()
sizes = [[i * 12 + j for j in range(8)] if i % 2 else [i * 12 + 8 + j for j in range(4)] for i in range(40)]
for x, y in DataLoader(TensorDataset(inputs, torch.arange(480) % 4), batch_sampler=sizes):
    train(x, y)
    read()
"""

# A loop that has the next batch before it trains on one.
ONE_AHEAD = """
def one_ahead(batches):
    following = next(batches)
    for batch in batches:
        current, following = following, batch
        yield current
    yield following
"""

# Nothing is looked at before the end, when the iterators of all epochs are gone.
EPOCHS_AHEAD = (
    ONE_AHEAD
    + """
meter = mfu_doctor.Meter(flops_per_step=1e6, peak_flops=1e9, window=30)
for epoch in range(4):
    for x, y in one_ahead(iter(loader(10))):
        train(x, y)
        meter.step()
assert [step.samples for step in meter._ledger.steps] == [4] * 30
read()
"""
)

# The same two sizes in an irregular order, from a loop that has the next batch before it trains on one.
AHEAD = (
    ONE_AHEAD
    + """
meter = mfu_doctor.Meter(model, peak_flops=1e9, window=1)
inputs = torch.arange(480 * 8, dtype=torch.float32).reshape(-1, 8).sin()
sizes = [range(i * 8, i * 8 + (4 if i * i % 5 < 2 else 8)) for i in range(48)]
for x, y in one_ahead(iter(DataLoader(TensorDataset(inputs, torch.arange(480) % 4), batch_sampler=sizes))):
    train(x, y)
    read(samples=len(x))
"""
)

BY_HAND = """
meter = mfu_doctor.Meter(model, peak_flops=1e9, window=1)
for i in range(30):
    size = 4 if i < 15 else 8
    train(torch.ones(size, 8), torch.zeros(size, dtype=torch.long))
    read(tokens=32)
"""

EVALUATING = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for i in range(3):
    for x, y in loader(5):
        train(x, y)
        passes(0.001)
        read()
    with torch.no_grad():
        for x, y in loader(20):
            forward(x, y)
            passes(0.002)
"""

RESET = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for i in range(12):
    train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    passes(0.001)
    read()
    if i == 8:
        passes(0.5)
        meter.reset()
"""

RESET_EACH = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for i in range(12):
    train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    read()
    with torch.no_grad(): forward(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    meter.reset()
"""

STATED = """
meter = mfu_doctor.Meter(flops_per_step=1e6, tokens_per_step=64, peak_flops=1e9)
for i in range(4):
    train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    time.sleep(0.01)
    read(samples=2)
"""

OTHER_PROFILER = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
    for x, y in loader(8):
        train(x, y)
        read()
prof.export_chrome_trace("theirs.json")
for x, y in loader(12):
    train(x, y)
    read()
"""

THEIRS_STARTS_MEANWHILE = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for i, (x, y) in enumerate(loader(20)):
    if i in (3, 4, 5):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
            train(x, y)
        prof.export_chrome_trace("theirs.json")
    else:
        train(x, y)
    read()
"""

IN_A_BLOCK = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
with block() as doctor:
    for x, y in loader(40):
        train(x, y)
        read()
"""

RECORDED = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
with block(skip=2, timed=2, warmup=2, active=2) as doctor:
    for i, (x, y) in enumerate(loader(40)):
        train(x, y)
        passes(0.3 if meter._ledger.profiled else 0.001)
        read()
        told[-1]["profiled"] = meter._ledger.profiled
"""

LEFT = """
from torch.utils.data.dataloader import _BaseDataLoaderIter
def state():
    return torch.autograd._engine_run_backward, _BaseDataLoaderIter.__next__
before = state()
meter = mfu_doctor.Meter(model)
with block() as doctor:  # its hooks go while those of the meter stay
    for x, y in loader(24):
        train(x, y)
        read()
meter.close()
meter.close()
assert state() == before
second = mfu_doctor.Meter(model)
with block() as doctor:
    for x, y in loader(24):
        train(x, y)
        if second is not None and len(told) > 5:
            second = None  # nobody closed it
assert state() == before
"""

FORKED = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
for x, y in loader(6):
    train(x, y)
    read()
pid = os.fork()
if pid == 0:
    told.clear()
    for x, y in loader(8):
        train(x, y)
        read()
    last = told[-1]
    os._exit(0 if last["flops"] == FLOPS and last["wait"] is not None else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for x, y in loader(6):
    train(x, y)
    read()
"""

# Nobody looks at a reading before the end.
LOOKED_AT_LATER = """
import copy
from mfu_doctor.capture.loop.step_feed import StepFeed
worked_out, of_step = [], StepFeed._step_ended
StepFeed._step_ended = lambda feed: worked_out.append(None) or of_step(feed)
meter = mfu_doctor.Meter(model, peak_flops=1e9)
readings, before = [], []
for epoch in range(2):
    for x, y in loader(20):
        train(x, y)
        readings.append(meter.step())
        before.append(len(worked_out))
    with torch.no_grad():
        for x, y in loader(100): forward(x, y)
assert before[-1] == before[15] < 16, before
copied = copy.deepcopy(readings[20])
assert len(worked_out) == 40
assert (copied.step, copied.last_step_time) == (20, readings[20].last_step_time)
times = [reading.last_step_time for reading in readings[10:20]]
assert abs(readings[19].step_time - sum(times) / 10) < 1e-12
assert [reading.step for reading in readings] == list(range(40))
assert [reading.flops_per_step for reading in readings[-10:]] == [FLOPS] * 10
assert (readings[19].window, readings[20].window) == (10, 9)  # an evaluation came between the two
assert "9 of the last 10 steps" in readings[20].smoothing
assert readings[20].step_time > 0
read()
"""

BROKEN = """
meter = mfu_doctor.Meter(model, peak_flops=1e9)
meter._ledger.counter.known = None
for i in range(3):
    train(torch.ones(4, 8), torch.zeros(4, dtype=torch.long))
    read()
"""

# A class of the program's may call a shape what cannot be looked up, or is no number.
ODD = """
class Pair:
    shape = SHAPE
    def __init__(self, rows): self.x, self.y = map(torch.stack, zip(*rows))
meter = mfu_doctor.Meter(model, peak_flops=1e9)
data = TensorDataset(torch.ones(24, 8), torch.zeros(24, dtype=torch.long))
for pair in DataLoader(data, 4, collate_fn=Pair):
    train(pair.x, pair.y)
    read()
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a program's meter told, and the exact losses of its training."""

    readings: list[dict[str, Any]]
    notes: list[str]
    losses: list[str]

    @property
    def last(self) -> dict[str, Any]:
        """The last reading."""
        return self.readings[-1]


def metered(zygote: Zygote, folder: Path, body: str, clock: str = "") -> Told:
    """Run a program with a meter."""
    ended = zygote.run(PRELUDE + clock + METERED + f"FLOPS = {STEP}\n" + body + TOLD, folder)
    assert ended.code == 0, ended.err
    line = next(line for line in ended.out.splitlines() if line.startswith("told "))
    return Told(**json.loads(line.removeprefix("told ")), losses=ended.losses)


def test_a_step_is_counted_once_and_the_training_is_the_same_bit_for_bit(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, LOOP)
    assert told.losses == zygote.run(PRELUDE + ALONE, tmp_path).losses
    assert [reading["counted"] for reading in told.readings].count(True) == 1
    last = told.last
    assert (last["step"], last["flops"], last["window"]) == (11, STEP, 9)  # of the last ten, one was recorded
    assert last["wait"] is not None
    assert 0 < last["wait"] < last["time"]
    assert last["samples"] == pytest.approx(4 / last["time"])
    assert last["memory"] > 1 << 20
    assert list(last["reasons"]) == ["tokens_per_second"]
    assert not told.notes


def test_mfu_is_the_ideal_time_over_the_time_of_steps_that_were_not_recorded(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, STATED)
    last = told.last
    assert last["mfu"] == pytest.approx(1e6 / 1e9 / last["time"])
    assert last["tokens"] == pytest.approx(64 / last["time"])
    assert last["samples"] == pytest.approx(2 / last["time"])
    assert last["time"] >= 0.01
    assert last["wait"] is None
    assert "no batch of a torch DataLoader" in last["reasons"]["data_wait"]
    assert not any(reading["counted"] for reading in told.readings)


def test_shapes_that_take_turns_are_both_counted(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, IN_TURN)
    assert {reading["flops"] for reading in told.readings[-2:]} == {STEP, 2 * STEP}


def test_a_step_has_the_work_of_its_own_batch_where_the_next_one_is_loaded_before_it(
    zygote: Zygote, tmp_path: Path
) -> None:
    readings = metered(zygote, tmp_path, AHEAD).readings[-20:]
    sizes = [round(reading["samples"] * reading["time"]) for reading in readings]
    assert set(sizes) == {4, 8}
    assert [reading["flops"] for reading in readings] == [STEP * size // 4 for size in sizes]


def test_no_batch_is_lost_of_epochs_that_are_worked_out_when_they_are_over(zygote: Zygote, tmp_path: Path) -> None:
    assert not metered(zygote, tmp_path, EPOCHS_AHEAD).notes


def test_a_change_of_shapes_is_seen_without_a_loader(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, BY_HAND)
    flops = [reading["flops"] for reading in told.readings]
    assert flops[10] == STEP
    assert flops[15] is None
    assert "shapes" in told.readings[15]["reasons"]["mfu"]
    assert flops[-1] == 2 * STEP
    assert told.last["tokens"] == pytest.approx(32 / told.last["time"])


def test_evaluation_between_steps_is_in_no_mean(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, EVALUATING, DRAWN_CLOCK)
    assert told.last["flops"] == STEP
    assert told.last["time"] == pytest.approx(0.001)


def test_what_the_program_says_was_no_training_is_in_no_mean(zygote: Zygote, tmp_path: Path) -> None:
    assert metered(zygote, tmp_path, RESET, DRAWN_CLOCK).last["time"] == pytest.approx(0.001)


def test_an_evaluation_after_every_step_is_not_counted_with_one(zygote: Zygote, tmp_path: Path) -> None:
    assert metered(zygote, tmp_path, RESET_EACH).last["flops"] == STEP


@pytest.mark.parametrize("body", [OTHER_PROFILER, THEIRS_STARTS_MEANWHILE, IN_A_BLOCK])
def test_a_meter_waits_for_other_recordings(zygote: Zygote, tmp_path: Path, body: str) -> None:
    assert metered(zygote, tmp_path, body).last["flops"] == STEP


def test_steps_that_are_recorded_are_in_no_mean(zygote: Zygote, tmp_path: Path) -> None:
    readings = metered(zygote, tmp_path, RECORDED, DRAWN_CLOCK).readings
    assert any(reading["profiled"] for reading in readings)
    times = [reading["time"] for reading in readings if reading["time"]]
    assert times == pytest.approx([0.001] * len(times))
    assert len(times) > 20


def test_a_meter_leaves_nothing_behind(zygote: Zygote, tmp_path: Path) -> None:
    assert metered(zygote, tmp_path, LEFT).readings


def test_a_forked_child_has_a_meter_of_its_own(zygote: Zygote, tmp_path: Path) -> None:
    assert metered(zygote, tmp_path, FORKED).last["flops"] == STEP


def test_steps_are_worked_out_when_a_reading_is_looked_at(zygote: Zygote, tmp_path: Path) -> None:
    assert not metered(zygote, tmp_path, LOOKED_AT_LATER).notes


def test_a_failing_meter_says_so_and_the_training_goes_on(zygote: Zygote, tmp_path: Path) -> None:
    told = metered(zygote, tmp_path, BROKEN)
    assert len(told.losses) == 3
    assert told.notes
    assert told.last["text"] == "time -, mfu -"


@pytest.mark.parametrize("shape", ["([4, 8], [4])", '("rows", 8)'])
def test_a_batch_with_an_odd_shape_is_one_of_unknown_rows(zygote: Zygote, tmp_path: Path, shape: str) -> None:
    told = metered(zygote, tmp_path, f"SHAPE = {shape}\n{ODD}")
    assert len(told.losses) == 6
    assert told.notes
    assert told.last["flops"] == STEP
