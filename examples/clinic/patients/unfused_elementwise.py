"""GELU written out in eight operators, each a pass over memory; the fix is the built-in one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from torch import Tensor, nn
from torch.nn import functional


def written_out(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def build(fixed: bool) -> Loop:
    first, second = nn.Linear(256, 1024), nn.Linear(1024, 256)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.01)
    x, y = torch.randn(4096, 256), torch.randint(0, 256, (4096,))

    def step(batch: None) -> None:
        hidden = first(x)
        hidden = functional.gelu(hidden, approximate="tanh") if fixed else written_out(hidden)
        loss = functional.cross_entropy(second(hidden), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("unfused-elementwise", "unfused-elementwise", build)
if __name__ == "__main__":
    main(PATIENT)
