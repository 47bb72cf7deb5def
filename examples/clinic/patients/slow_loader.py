"""A loader without workers: each sample waits for (simulated) storage on the training thread."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import time

import torch
from harness import Loop, Patient, main
from models import mlp
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset


class Stored(Dataset[tuple[torch.Tensor, int]]):
    """Samples that take 4 ms to arrive and no CPU: the workers stay the limit, however slow the step is here."""

    def __init__(self) -> None:
        self.sample = torch.randn(1024)

    def __len__(self) -> int:
        return 32 * 200

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.004)
        return self.sample, index % 16


def build(fixed: bool) -> Loop:
    loader = DataLoader(Stored(), batch_size=32, num_workers=2 if fixed else 0, persistent_workers=fixed)
    model = mlp(depth=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return loader, step


PATIENT = Patient("slow-loader", "input-bound", build)
if __name__ == "__main__":
    main(PATIENT)
