"""Pieces of the small training programs that capture tests run, with and without mfu-doctor around the loop."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mfu_doctor.facts import FACTS_KEY, Facts
from tests.capture.zygote import Ended, Zygote

TRACE = "out.pt.trace.json.gz"

PRELUDE = """
import contextlib, os, sys, threading, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
PLAIN = "plain" in sys.argv

class Nothing:
    path, report, notes = None, None, ()
    def step(self): pass
    def batches(self, it): return it

def block(path="out.pt.trace.json.gz", **options):
    if PLAIN:
        return contextlib.nullcontext(Nothing())
    import mfu_doctor
    return mfu_doctor.profile(path, **{"print_report": False, **options})

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

def loader(steps, **options):
    inputs = torch.arange(steps * 4 * 8, dtype=torch.float32).reshape(-1, 8).sin()
    return DataLoader(TensorDataset(inputs, torch.arange(steps * 4) % 4), batch_size=4, shuffle=True, **options)

def forward(x, y):
    return nn.functional.cross_entropy(model(x), y)

def train(x, y):
    loss = forward(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print("loss", loss.item().hex(), flush=True)
"""

# One training step of PRELUDE's model on a batch of four: forward, the gradients of both weights, that of the hidden layer.
STEP = 2 * 4 * (8 * 16 + 16 * 4) * 2 + 2 * 4 * 16 * 4

BY_HAND = """
    for x, y in loader(40):
        loss = forward(x, y)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.01 * p.grad
                p.grad = None
        print("loss", loss.item().hex())
"""

LOOP = """
with block() as doctor:
    for x, y in loader(24):
        train(x, y)
"""

# The clock of steps, moved by the program alone: what they take does not depend on the machine of the tests, nor on what else
# runs there. It stands before anything of ours is imported.
DRAWN_CLOCK = """
moved_s, began_ns = [], time.perf_counter_ns()
passes = moved_s.append
time.perf_counter_ns = lambda: began_ns + round(sum(moved_s) * 1e9)
"""


# Steps 13 to 17 are timed, 19 has shapes; a block of the program's own comes in a second thread.
TAKES_OVER = """
go, done = threading.Event(), threading.Event()
def work():
    go.wait()
    mine = nn.Linear(8, 4)
    sgd = torch.optim.SGD(mine.parameters(), lr=0.1)
    with block("own.pt.trace.json.gz") as doctor:
        for _ in range(24):
            mine(torch.ones(4, 8)).sum().backward()
            sgd.step(); sgd.zero_grad()
    done.set()
threading.Thread(target=work).start()
for i, (x, y) in enumerate(loader(20_000)):
    train(x, y)
    if i == AT: go.set()
    if done.is_set(): break
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A trace file that a program left."""

    facts: Facts
    events: list[dict[str, Any]]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Duration events of this name."""
        return [event for event in self.events if event["ph"] == "X" and event["name"] == name]

    @property
    def steps(self) -> list[int]:
        """Numbers of the marked steps, in the order of the file."""
        marks = [event["name"] for event in self.events if event["ph"] == "X" and event.get("cat") == "user_annotation"]
        return [int(mark.partition("#")[2]) for mark in marks if mark.startswith("ProfilerStep#")]


def read(path: Path) -> Written:
    """Read a trace strictly, as other tools do."""
    trace = json.loads(gzip.decompress(path.read_bytes()))
    return Written(msgspec.convert(trace[FACTS_KEY], Facts), trace["traceEvents"])


def with_and_without(zygote: Zygote, folder: Path, body: str) -> tuple[Ended, Ended]:
    """Run a program under mfu-doctor and alone; its exit status and its losses must be the same, bit for bit."""
    alone, ours = folder / "alone", folder / "ours"
    alone.mkdir()
    ours.mkdir()
    plain = zygote.run(PRELUDE + body, alone, "plain")
    watched = zygote.run(PRELUDE + body, ours)
    assert watched.losses == plain.losses, watched.err
    assert watched.code == plain.code, watched.err
    return watched, plain


def told_by_the_program(ended: Ended) -> str:
    """What stands on its standard error without the lines on the progress of the recording."""
    return "".join(line for line in ended.err.splitlines(keepends=True) if not line.startswith("mfu-doctor: record"))


def ours(folder: Path) -> Written:
    """The trace that `with_and_without` left."""
    return read(folder / "ours" / TRACE)
