"""A large embedding table whose dense gradient is written whole for a few hundred rows."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch import nn
from torch.nn import functional


def build(fixed: bool) -> Loop:
    embed = nn.Embedding(400_000, 128, sparse=fixed)
    head = nn.Sequential(nn.Linear(128, 1024), nn.ReLU(), *mlp(depth=3))
    optimizer = torch.optim.SGD([*embed.parameters(), *head.parameters()], lr=0.01)
    tokens, y = torch.randint(0, 400_000, (512,)), torch.randint(0, 16, (512,))

    def step(batch: None) -> None:
        loss = functional.cross_entropy(head(embed(tokens)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("dense-embedding", "dense-embedding-grad", build)
if __name__ == "__main__":
    main(PATIENT)
