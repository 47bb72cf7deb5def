"""Faults of the host: it waits, launches too much, or delivers batches too late."""

from __future__ import annotations

import time

import torch
from harness import Loop, device, repeat
from models import mlp, narrow
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from on_gpu_parts.patients.loops import (
    Patient,
    classify,
    fused,
    gpt,
    graphed,
    in_bf16,
    next_token,
    size,
    tokens,
    training,
)

SAMPLE_S = 0.004  # that a sample takes to arrive, and no CPU


class Stored(Dataset[tuple[torch.Tensor, int]]):
    """Samples from a slow disk."""

    def __init__(self, width: int) -> None:
        self.sample = torch.randn(width)

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(SAMPLE_S)
        return self.sample, index % 16


def slow_loader(fixed: bool) -> Loop:
    width = size(1024, 32)
    loader = DataLoader(Stored(width), size(32, 4), num_workers=2 if fixed else 0, persistent_workers=fixed)
    model = mlp(width=width).to(device())

    def loss_of(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = (part.to(device()) for part in batch)
        return functional.cross_entropy(model(x), y)

    return loader, training(fused(model), loss_of)


def pageable_copies(fixed: bool) -> Loop:
    """64 MB a step on a GPU."""
    width = size(4096, 64)
    x, y = torch.randn(size(4096, 8), width), torch.randint(0, 16, (size(4096, 8),))
    if fixed and device().type == "cuda":
        x, y = x.pin_memory(), y.pin_memory()
    model = mlp(width=width).to(device())

    def loss_of(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = (part.to(device(), non_blocking=fixed) for part in batch)
        return functional.cross_entropy(model(x), y)

    return repeat((x, y)), training(fused(model), loss_of)


def item_each_step(fixed: bool) -> Loop:
    model = gpt(width=size(512, 32), heads=size(8, 2), vocabulary=512)
    plain = training(fused(model), next_token(model, tokens(size(512, 97), size(8, 2), size(128, 16))))
    seen = []

    def step(batch: None) -> None:
        loss = plain(batch)
        seen.append(loss.detach() if fixed else loss.item())
        del seen[:-1]

    return repeat(None), step


def single_tensor_optimizer(fixed: bool) -> Loop:
    width = size(256, 16)
    model = narrow(width=width, depth=size(60, 6)).to(device())
    options = {"fused": True} if fixed else {"foreach": False}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **options)
    return repeat(None), training(optimizer, classify(model, torch.randn(size(512, 8), width, device=device())))


def small_kernels(fixed: bool) -> Loop:
    width = size(256, 16)
    model = narrow(width=width, depth=size(40, 6)).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=device().type == "cuda")
    loss_of = in_bf16(classify(model, torch.randn(size(64, 8), width, device=device())))
    step = training(optimizer, loss_of)
    return repeat(None), graphed(step) if fixed else step


def batch_of_one(fixed: bool) -> Loop:
    """The same samples in each step: one by one with their gradients added up, or all at once."""
    model = gpt(width=size(256, 32), heads=size(4, 2), vocabulary=512)
    optimizer, count = fused(model), size(16, 4)
    text = tokens(size(512, 97), count, size(128, 16))

    def step(batch: None) -> None:
        for part in (text,) if fixed else text.split(1):
            (next_token(model, part)(None) * len(part) / count).backward()
        optimizer.step()
        optimizer.zero_grad()

    return repeat(None), step


def empty_cache_each_step(fixed: bool) -> Loop:
    model = gpt(width=size(512, 32), heads=size(8, 2), vocabulary=8192)
    plain = training(fused(model), next_token(model, tokens(size(8192, 97))))

    def step(batch: None) -> None:
        plain(batch)
        if not fixed and device().type == "cuda":
            torch.cuda.empty_cache()

    return repeat(None), step


PATIENTS = (
    Patient("slow-loader", "input-bound", slow_loader),
    Patient("pageable-copies", "pageable-copy", pageable_copies),
    Patient("item-each-step", "device-sync", item_each_step),
    Patient("single-tensor-optimizer", "unfused-optimizer", single_tensor_optimizer),
    Patient("small-kernels", "ungraphed-steps", small_kernels, fp32=True, marks=True),
    Patient("batch-of-one", "host-bound", batch_of_one),
    Patient("empty-cache-each-step", "allocator-churn", empty_cache_each_step),
)
