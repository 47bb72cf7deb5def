"""A head in fp16 on a CPU, whose products have no fast path there: many times slower than the rest, which is in bf16, or in fp32
on a processor without bf16."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, has_bf16, main, repeat
from models import mlp
from torch import nn
from torch.nn import functional


def build(fixed: bool) -> Loop:
    body, head = nn.Sequential(*mlp(depth=4)[:-1]), nn.Sequential(nn.Linear(1024, 96), nn.ReLU(), nn.Linear(96, 16))
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
    x, y = torch.randn(128, 1024), torch.randint(0, 16, (128,))
    bf16 = has_bf16("cpu")

    def step(batch: None) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            hidden = body(x)
        fast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)
        with fast if fixed else torch.autocast("cpu", dtype=torch.float16):
            loss = functional.cross_entropy(head(hidden), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("emulated-half", "emulated-dtype", build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
