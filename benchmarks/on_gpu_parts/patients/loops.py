"""What the patients share: their sizes on a GPU and in a rehearsal, ordinary training steps, and networks on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import harness
import torch
from harness import Batch, Loop, device, repeat
from models import Gpt
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[Batch], Any]


@dataclass(frozen=True)
class Patient(harness.Patient):
    """A patient of the clinic.

    Attributes:
        marks: whether its loop says itself where a step ends: a replayed graph shows no optimizer.
    """

    marks: bool = False


def size(real: int, tiny: int) -> int:
    """A size on a GPU, and in a rehearsal."""
    return real if device().type == "cuda" else tiny


def training(optimizer: torch.optim.Optimizer, loss_of: Callable[[Batch], Tensor], *, to_none: bool = True) -> Step:
    """An ordinary step."""

    def step(batch: Batch) -> Tensor:
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=to_none)
        loss.backward()
        optimizer.step()
        return loss

    return step


def fused(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that is no fault."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def classify(model: nn.Module, x: Tensor, classes: int = 16) -> Callable[[Batch], Tensor]:
    """The loss of a classifier on one batch that stays on the device."""
    y = torch.randint(0, classes, (len(x),), device=x.device)
    return lambda _: functional.cross_entropy(model(x), y)


def gpt(*, vocabulary: int = 50304, **options: Any) -> nn.Module:
    """A language model."""
    sizes: dict[str, Any] = {"width": size(1024, 32), "heads": size(16, 2), "depth": size(6, 1)}
    return Gpt(**(sizes | {"vocabulary": vocabulary if device().type == "cuda" else 97} | options)).to(device())


def tokens(vocabulary: int, batch: int | None = None, length: int | None = None) -> Tensor:
    """A batch of texts, one token longer than what the model reads."""
    shape = (batch or size(16, 2), (length or size(512, 16)) + 1)
    return torch.randint(0, vocabulary, shape, device=device())


def next_token(model: nn.Module, text: Tensor) -> Callable[[Batch], Tensor]:
    """The loss of a language model on one batch that stays on the device."""
    return lambda _: functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


def on_text(model: nn.Module, text: Tensor, **options: Any) -> Loop:
    """A language model trained on one batch."""
    return repeat(None), training(fused(model), next_token(model, text), **options)


def graphed(step: Step) -> Step:
    """The step as one CUDA graph; on a CPU, which has none, the step itself."""
    if device().type != "cuda":
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(None)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(None)
    return lambda batch: graph.replay()


def in_bf16(loss_of: Callable[[Batch], Tensor]) -> Callable[[Batch], Tensor]:
    """The loss under an autocast of its own, which a graph can capture: it keeps no casts from one step to the next."""

    def loss(batch: Batch) -> Tensor:
        with torch.autocast(device().type, dtype=torch.bfloat16, enabled=harness.has_bf16(), cache_enabled=False):
            return loss_of(batch)

    return loss
