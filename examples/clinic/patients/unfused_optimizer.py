"""Adam that updates 240 small tensors one by one, several operators each."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import narrow
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = narrow(depth=120)
    options = {"fused": True} if fixed else {"foreach": False}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, **options)
    x, y = torch.randn(64, 48), torch.randint(0, 16, (64,))

    def step(batch: None) -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("unfused-optimizer", "unfused-optimizer", build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
