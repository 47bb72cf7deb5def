"""Small training programs that the remedies are applied to, each in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.capture.zygote import Zygote

PRELUDE = """
import json, os, sys, warnings
from mfu_doctor.trial.remedies.catalogue import remedy_named
from mfu_doctor.trial.remedies.effects import effects
for name in sys.argv[1:]:
    remedy_named(name).apply()

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

said = {}

def end():
    print(json.dumps({**said, "effects": sorted(effects())}))

class Model(nn.Module):
    def __init__(self, dropout=0.1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Sequential(nn.Dropout(dropout), nn.Linear(16, 4)))
    def forward(self, x):
        return self.layers(x)

def data(samples=48):
    return TensorDataset(torch.arange(samples * 8, dtype=torch.float32).reshape(-1, 8).sin(), torch.arange(samples) % 4)

def train(model, batches, optimizer=None, forward=None, after=None):
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=0.01)
    for x, y in batches:
        loss = F.cross_entropy((forward or model)(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", loss.item().hex(), flush=True)

torch.manual_seed(0)
"""

# The plain program: two epochs of six steps, shuffled, with dropout.
TRAINING = """
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = DataLoader(data(), batch_size=8, shuffle=True)
for epoch in range(2):
    train(model, loader, optimizer)
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a program did with remedies applied."""

    losses: tuple[float, ...]
    said: dict[str, Any]

    @property
    def effects(self) -> list[str]:
        """Names of the remedies that took effect."""
        names: list[str] = self.said["effects"]
        return names


Try: TypeAlias = Callable[..., Tried]


@pytest.fixture
def tried(zygote: Zygote, tmp_path: Path) -> Try:
    """Run the text of a program with these remedies; it must end well."""
    runs = 0

    def run(body: str, *remedies: str) -> Tried:
        nonlocal runs
        runs += 1
        folder = tmp_path / str(runs)
        folder.mkdir()
        ended = zygote.run(f"{PRELUDE}{body}\nend()\n", folder, *remedies)
        assert ended.code == 0, ended.err
        losses = tuple(float.fromhex(line.split()[1]) for line in ended.losses)
        return Tried(losses, json.loads(ended.out.splitlines()[-1]))

    return run
