"""Matrix products in fp32 on a processor that multiplies bf16 faster; the fix is autocast."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, device, has_bf16, main, repeat
from models import mlp
from torch.nn import functional


def build(fixed: bool) -> Loop:
    place = device()
    model = mlp(width=1536, depth=3).to(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(512, 1536, device=place), torch.randint(0, 16, (512,), device=place)

    def step(batch: None) -> None:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=fixed):
            loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


ABSENT = None if has_bf16() else "this processor has no arithmetic in bf16"
PATIENT = Patient("fp32-matmul", "fp32-matmul", build, fp32=True, absent=ABSENT)
if __name__ == "__main__":
    main(PATIENT)
