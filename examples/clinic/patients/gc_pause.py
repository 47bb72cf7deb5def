"""A large heap of Python objects that the garbage collector walks every step; the fix freezes it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gc

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = mlp(width=2048, depth=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(256, 2048), torch.randint(0, 16, (256,))
    heap = [{"index": i, "items": [i]} for i in range(60_000)]
    if fixed:
        gc.freeze()

    def step(batch: None) -> None:
        gc.collect()
        loss = functional.cross_entropy(model(x), y) + 0.0 * heap[0]["index"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("gc-pause", "gc-pause", build)
if __name__ == "__main__":
    main(PATIENT)
