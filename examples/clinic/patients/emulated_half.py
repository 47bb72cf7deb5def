"""fp16 on a CPU, whose products have no fast path: tens of times slower than bf16."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = mlp(width=768, depth=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(128, 768), torch.randint(0, 16, (128,))

    def step(batch: None) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16 if fixed else torch.float16):
            loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("emulated-half", "emulated-dtype", build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
