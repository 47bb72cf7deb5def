"""A small training run with a common fault: the loader works while the model waits. What README's first command diagnoses.

mfu-doctor run examples/train.py                 the fault: one process does both
mfu-doctor run examples/train.py --workers 2     the fix that the report suggests
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

STEPS, BATCH, PIXELS = 26, 32, 24


class Pictures(Dataset):
    """Random pictures, smoothed again and again as slow augmentations are."""

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = torch.randn(3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(index))
        for _ in range(20):
            picture = (picture + picture.roll(1, 1) + picture.roll(1, 2)) / 3
        return picture, index % 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * PIXELS * PIXELS, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for pictures, labels in DataLoader(Pictures(), batch_size=BATCH, num_workers=options.workers):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
