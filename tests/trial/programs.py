"""Small training programs and fixes of one's own, for real child processes."""

from __future__ import annotations

import os
from pathlib import Path

from mfu_doctor.trial.bench import Bench, Budget, Patience
from mfu_doctor.trial.command import Program
from tests.patience import until

# It updates by hand: the first optimizer of a process imports all of Dynamo.
TRAIN = """
import os, subprocess, sys, time
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
weight = torch.zeros(8, 4, requires_grad=True)

def update():
    with torch.no_grad():
        weight.sub_(weight.grad)
    weight.grad = None

def train(steps):
    for step in range(steps):
        x = torch.randn(16, 8)
        loss = (x @ weight - x[:, :4]).pow(2).mean()
        loss.backward()
        update()
        time.sleep(0.002)
"""

PLENTY = TRAIN + "train(100_000)\n"
STEPS = 12


def bench(folder: Path, source: str, *args: str, patience: Patience | None = None, seconds: float = 3600.0) -> Bench:
    """A bench for a program with this source, in the working directory."""
    script = folder / "train.py"
    script.write_text(source)
    made = Bench(Program.of([str(script), *args]), Budget(seconds), patience or Patience())
    made.steps = STEPS
    return made


def own_fix(folder: Path, source: str) -> str:
    """A fix of one's own; returns its name."""
    path = folder / "mine.py"
    path.write_text(source)
    return str(path)


def is_running(pid: int) -> bool:
    """Whether this process still runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8") if Path("/proc/self/stat").exists() else ""
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[:1] != ["Z"]


def soon_over(pid: int) -> bool:
    """Whether this process ends."""
    return until(lambda: not is_running(pid))
