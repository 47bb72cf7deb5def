"""A healthy control: wide layers in bf16, a fused optimizer, data at hand."""

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
    model = mlp(width=1536).to(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    x, y = torch.randn(512, 1536, device=place), torch.randint(0, 16, (512,), device=place)

    def step(batch: None) -> None:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=has_bf16()):
            loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("healthy-mlp", None, build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
