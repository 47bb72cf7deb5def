"""Attention written out: scores, mask, softmax and weights go through memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import Gpt
from torch.nn import functional


def build(fixed: bool) -> Loop:
    model = Gpt(fused=fixed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    tokens = torch.randint(0, 96, (2, 1025))

    def step(batch: None) -> None:
        out = model(tokens[:, :-1])
        loss = functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("unfused-attention", "unfused-attention", build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
