"""Activations transposed and made contiguous around every layer, for operators that need neither."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from torch import nn
from torch.nn import functional


def build(fixed: bool) -> Loop:
    layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(4))
    head = nn.Linear(256, 16)
    optimizer = torch.optim.SGD([*layers.parameters(), *head.parameters()], lr=0.01)
    x, y = torch.randn(4096, 256), torch.randint(0, 16, (4096,))

    def step(batch: None) -> None:
        hidden = x
        for layer in layers:
            hidden = layer(hidden)
            if not fixed:
                hidden = hidden.t().contiguous().t().contiguous()
            hidden = functional.relu(hidden)
        loss = functional.cross_entropy(head(hidden), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("contiguous-copies", "contiguous-copies", build)
if __name__ == "__main__":
    main(PATIENT)
