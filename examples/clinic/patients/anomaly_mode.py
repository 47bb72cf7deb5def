"""Anomaly detection left on: a stack is kept for every operator and every gradient is searched for NaN."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, main, repeat
from models import narrow
from torch.nn import functional


def build(fixed: bool) -> Loop:
    torch.autograd.set_detect_anomaly(not fixed)
    model = narrow(width=256, depth=40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(256, 256), torch.randint(0, 16, (256,))

    def step(batch: None) -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("anomaly-mode", "anomaly-mode", build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
