"""A Python loop that indexes the batch sample by sample; the fix is one batched operator."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = mlp(width=512, depth=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(2048, 512), torch.randint(0, 16, (2048,))
    scale = torch.rand(2048)

    def step(batch: None) -> None:
        scaled = x * scale[:, None] if fixed else torch.stack([x[i] * scale[i] for i in range(2048)])
        loss = functional.cross_entropy(model(scaled), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("indexing-loop", "tensor-loop", build)
if __name__ == "__main__":
    main(PATIENT)
