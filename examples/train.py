"""A small training run with a common fault: the loader works while the model waits. What README's first command diagnoses.

mfu-doctor run examples/train.py                 the fault: one process does both
mfu-doctor run examples/train.py --workers 2     the fix that the report suggests
"""

from __future__ import annotations

import argparse
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

STEPS, BATCH, PIXELS, PASSES = 26, 16, 48, 10


class Pictures(Dataset):
    """Random pictures, smoothed pixel by pixel in Python, as slow decoders and augmentations are."""

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        noise = random.Random(index)
        pixels = [noise.random() for _ in range(3 * PIXELS * PIXELS)]
        for _ in range(PASSES):
            pixels = [(a + b) / 2 for a, b in zip(pixels, pixels[1:] + pixels[:1], strict=True)]
        return torch.tensor(pixels).view(3, PIXELS, PIXELS), index % 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
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
