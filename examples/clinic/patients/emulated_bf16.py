"""A head under autocast on a processor without bf16 arithmetic: its products are emulated, many times slower than in fp32."""

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
    body, head = nn.Sequential(*mlp(depth=4)[:-1]), nn.Sequential(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
    x, y = torch.randn(128, 1024), torch.randint(0, 16, (128,))

    def step(batch: None) -> None:
        hidden = body(x)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not fixed):
            loss = functional.cross_entropy(head(hidden), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


ABSENT = "this processor multiplies bf16 in hardware" if has_bf16("cpu") else None
PATIENT = Patient("emulated-bf16", "emulated-dtype", build, fp32=True, absent=ABSENT)
if __name__ == "__main__":
    main(PATIENT)
