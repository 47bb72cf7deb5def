"""A healthy control: a loader whose workers stay ahead of the step."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from harness import Loop, Patient, has_bf16, main
from models import mlp
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def build(fixed: bool) -> Loop:
    data = TensorDataset(torch.randn(32 * 400, 256), torch.randint(0, 16, (32 * 400,)))
    loader = DataLoader(data, batch_size=64, num_workers=1, persistent_workers=True)
    model = mlp(width=1536).requires_grad_(True)
    first = torch.nn.Linear(256, 1536)
    optimizer = torch.optim.SGD([*first.parameters(), *model.parameters()], lr=0.01, fused=True)

    def step(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16("cpu")):
            loss = functional.cross_entropy(model(first(batch[0])), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return loader, step


PATIENT = Patient("healthy-loader", None, build, fp32=True)
if __name__ == "__main__":
    main(PATIENT)
