"""One thread on a machine with more cores (torchrun sets OMP_NUM_THREADS=1)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import os

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    torch.set_num_threads(len(os.sched_getaffinity(0)) if fixed else 1)
    model = mlp(width=1536)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(256, 1536), torch.randint(0, 16, (256,))

    def step(batch: None) -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("few-threads", "few-threads", build)
if __name__ == "__main__":
    main(PATIENT)
