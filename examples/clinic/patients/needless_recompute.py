"""Activation checkpointing although memory is plentiful: every block runs forward twice."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional
from torch.utils.checkpoint import checkpoint_sequential


def build(fixed: bool) -> Loop:
    model = mlp(depth=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(128, 1024), torch.randint(0, 16, (128,))

    def step(batch: None) -> None:
        out = model(x) if fixed else checkpoint_sequential(model, 3, x, use_reentrant=False)
        loss = functional.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("needless-recompute", "needless-recompute", build)
if __name__ == "__main__":
    main(PATIENT)
