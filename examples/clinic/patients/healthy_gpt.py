"""A healthy control: a small transformer with fused attention and a fused optimizer in bf16."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, device, has_bf16, main, repeat
from models import Gpt
from torch.nn import functional


def build(fixed: bool) -> Loop:
    place = device()
    model = Gpt(width=256, depth=3).to(place)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, 96, (8, 257), device=place)

    def step(batch: None) -> None:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=has_bf16()):
            out = model(tokens[:, :-1])
            loss = functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("healthy-gpt", None, build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
