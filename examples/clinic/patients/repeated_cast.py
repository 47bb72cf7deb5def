"""Weights cast to bf16 again for every micro-batch by hand; the fix casts once per step."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from torch import nn
from torch.nn import functional

MICRO_BATCHES = 8


def build(fixed: bool) -> Loop:
    weight = nn.Parameter(torch.randn(2048, 2048) / 45)
    optimizer = torch.optim.SGD([weight], lr=0.01)
    x = torch.randn(16, 2048, dtype=torch.bfloat16)

    def step(batch: None) -> None:
        optimizer.zero_grad()
        once = weight.bfloat16()
        total = torch.zeros(())
        for _ in range(MICRO_BATCHES):
            cast = once if fixed else weight.bfloat16()
            total = total + functional.linear(x, cast).float().square().mean()
        total.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("repeated-cast", "repeated-cast", build)
if __name__ == "__main__":
    main(PATIENT)
