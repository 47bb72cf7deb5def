"""Small jobs of several ranks, each with one planted fault, run by torchrun on gloo:

    torchrun --nproc_per_node 2 -m mfu_doctor run -o DIR/ examples/clinic/jobs/programs.py python-one-rank [--fix]

Each rank has a core of its own as far as there are cores, so that a rank that does more does not slow the others down.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

STEPS = 60
LATE = 1  # the rank with the fault
WIDTH, BATCH, CLASSES = 256, 1024, 16  # much to compute and little to communicate: what gloo takes varies most
SLEPT_S = 0.05  # of Python, or of storage
BURNT = 100  # products
MICRO_BATCHES = 8


def mlp(depth: int, classes: int = CLASSES) -> nn.Sequential:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, classes))


def burn(products: int) -> None:
    matrix = torch.ones(256, 256)
    for _ in range(products):
        matrix = (matrix @ matrix).clamp(max=1.0)


class BurnBackward(torch.autograd.Function):
    """Does nothing in forward, and more than needed in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, products: int) -> Tensor:
        ctx.products = products
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Any:
        burn(ctx.products)
        return grad[0], None


class Stage(nn.Module):
    """A place between layers where backward does more on the late rank."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self.products = products

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = BurnBackward.apply(x, self.products)
        return out


class Stored(Dataset[tuple[Tensor, int]]):
    """Samples from a storage that answers at once, or slowly."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self.sample = torch.ones(WIDTH)

    def __len__(self) -> int:
        return BATCH * (STEPS + 1)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.wait_s:
            time.sleep(self.wait_s)
        return self.sample, index % CLASSES


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, WIDTH), torch.zeros(BATCH, dtype=torch.long)


def train(model: nn.Module, before: Callable[[], None] = lambda: None) -> None:
    """Steps of a classifier on the same batch; `before` runs at the begin of each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = batch()
    for _ in range(STEPS):
        before()
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def healthy(late: bool) -> None:
    train(DistributedDataParallel(mlp(4)))


def python_one_rank(late: bool) -> None:
    train(DistributedDataParallel(mlp(4)), lambda: time.sleep(SLEPT_S if late else 0.0))


def loader_one_rank(late: bool) -> None:
    model = DistributedDataParallel(mlp(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number, (x, y) in enumerate(DataLoader(Stored(SLEPT_S / BATCH if late else 0.0), batch_size=BATCH)):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number + 1 == STEPS:
            break


def forward_one_rank(late: bool) -> None:
    train(DistributedDataParallel(mlp(4)), lambda: burn(BURNT if late else 0))


def backward_one_rank(late: bool) -> None:
    train(DistributedDataParallel(nn.Sequential(mlp(2, WIDTH), Stage(BURNT if late else 0), mlp(2))))


def threads_one_rank(late: bool) -> None:
    torch.set_num_threads(1 if late else 2)
    train(DistributedDataParallel(mlp(8)))


def uneven_lengths(late: bool, *, faulty: bool) -> None:
    """Each rank draws its own lengths of sequences; mended, all ranks have sequences of the same length in a step."""
    draw = random.Random(dist.get_rank() if faulty else 0)
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    model = DistributedDataParallel(nn.Sequential(nn.Embedding(96, 128), layer, nn.Linear(128, 96)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        tokens = torch.ones(16, draw.choice((64, 256)), dtype=torch.long)
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def uneven_pipeline(late: bool, *, faulty: bool) -> None:
    """Two stages: all forward, then all backward. The second stage has most of the layers; mended, each has half of them."""
    first = dist.get_rank() == 0
    depth = ((2, 14) if faulty else (8, 8))[dist.get_rank()]
    model = mlp(depth, WIDTH if first else CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = (whole.split(BATCH // MICRO_BATCHES) for whole in batch())
    for _ in range(STEPS):
        optimizer.zero_grad()
        if first:
            first_stage(model, x)
        else:
            second_stage(model, y)
        optimizer.step()


def first_stage(model: nn.Module, batches: tuple[Tensor, ...]) -> None:
    made = []
    for x in batches:
        made.append(model(x))
        dist.send(made[-1].detach(), 1)
    for out in made:
        grad = torch.empty_like(out)
        dist.recv(grad, 1)
        out.backward(grad)


def second_stage(model: nn.Module, targets: tuple[Tensor, ...]) -> None:
    made = []
    for y in targets:
        got = torch.empty(len(y), WIDTH)
        dist.recv(got, 0)
        made.append((got.requires_grad_(), functional.cross_entropy(model(got), y)))
    for got, loss in made:
        loss.backward()
        assert got.grad is not None
        dist.send(got.grad, 0)


def sharded(late: bool) -> None:
    """FSDP: parameters are gathered layer by layer."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = mlp(4)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    train(model, lambda: time.sleep(SLEPT_S if late else 0.0))


def two_by_two(late: bool) -> None:
    """Activations are summed over tp, gradients over dp."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    tp, dp = mesh.get_group("tp"), mesh.get_group("dp")
    layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.01)
    x, _ = batch()
    for _ in range(STEPS):
        optimizer.zero_grad()
        y = x
        for i, layer in enumerate(layers):
            y = layer(y).relu()
            if late and i == 2:
                burn(BURNT)
            summed = y.detach().clone()
            dist.all_reduce(summed, group=tp)
            y = y + 0.0 * summed
        y.mean().backward()
        for parameter in layers.parameters():
            dist.all_reduce(parameter.grad, group=dp)
        optimizer.step()


# Faults of one rank; those of the whole job take `faulty`.
OF_ONE_RANK: dict[str, Callable[[bool], None]] = {
    "healthy": healthy,
    "healthy-four": healthy,
    "python-one-rank": python_one_rank,
    "loader-one-rank": loader_one_rank,
    "forward-one-rank": forward_one_rank,
    "backward-one-rank": backward_one_rank,
    "threads-one-rank": threads_one_rank,
    "sharded": sharded,
    "two-by-two": two_by_two,
}
OF_THE_JOB: dict[str, Callable[..., None]] = {"uneven-lengths": uneven_lengths, "uneven-pipeline": uneven_pipeline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*OF_ONE_RANK, *OF_THE_JOB))
    parser.add_argument("--fix", action="store_true", help="without the fault")
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if given.name != "threads-one-rank":
        os.sched_setaffinity(0, {cores[int(os.environ["LOCAL_RANK"]) % len(cores)]})
        torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    late = dist.get_rank() == LATE and not given.fix
    if given.name in OF_ONE_RANK:
        OF_ONE_RANK[given.name](late)
    else:
        OF_THE_JOB[given.name](late, faulty=not given.fix)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
