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
    model = narrow(depth=40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(64, 48), torch.randint(0, 16, (64,))

    def step(batch: None) -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeat(None), step


PATIENT = Patient("anomaly-mode", "anomaly-mode", build)
if __name__ == "__main__":
    main(PATIENT)
