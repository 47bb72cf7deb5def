"""Python that walks over every sample between the operators; the fix asks torch once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = mlp(depth=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(256, 1024), torch.randint(0, 16, (256,))
    table = [[float(i * j % 7) for j in range(400)] for i in range(800)]
    as_tensor = torch.tensor(table)

    def step(batch: None) -> None:
        if fixed:
            scale = (as_tensor * 0.5 + 1.0).remainder(7.0).sum().item()
        else:
            scale = 0.0
            for row in table:
                for value in row:
                    scale += (value * 0.5 + 1.0) % 7.0
        loss = functional.cross_entropy(model(x), y) * (1.0 + scale * 1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("python-step", "host-bound", build)
if __name__ == "__main__":
    main(PATIENT)
