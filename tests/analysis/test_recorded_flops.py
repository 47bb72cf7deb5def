"""FLOPs of steps that PyTorch records here on the CPU, against closed forms: the operators as torch really nests them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch import nn
from torch.nn import functional

from mfu_doctor import count_flops
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.counted_ops import BACKWARD, FORWARD, RECOMPUTE, find_counted_ops
from mfu_doctor.analysis.utilization.flops import CAUSAL, EXECUTED, MODEL
from mfu_doctor.reading import read_trace
from tests.steps import dtypes_of, flops_of


def recorded(step: Callable[[], None], path: Path, *, steps: int = 2) -> Run:
    """Profile a step on this CPU with shapes, marked by the profiler's own schedule."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        for i in range(steps):
            with torch.profiler.record_function(f"ProfilerStep#{i}"):
                step()
    profiler.export_chrome_trace(str(path))
    return Run(read_trace(path))


class Block(nn.Module):
    """A transformer block with fused causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm(x)).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, width))
        return torch.as_tensor(x + self.down(functional.gelu(self.up(self.norm(x)))))


class TinyGpt(nn.Module):
    """Six layers, width 96, 65 characters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(65, 96)
        self.blocks = nn.ModuleList(Block(96, 6) for _ in range(6))
        self.head = nn.Linear(96, 65, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.head(x))


def test_a_tiny_gpt_step_recorded_by_torch_matches_the_closed_form(tmp_path: Path) -> None:
    """Model, causal and executed FLOPs of forward, backward and optimizer, against 3 x (24 d^2 L + 2 V d) per token."""
    model = TinyGpt()
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(65, (2, 64))

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(tokens).view(-1, 65), tokens.view(-1)))
        optimizer.step()

    run = recorded(step, tmp_path / "gpt.json")
    count = run.flops
    assert flops_of(count, 1, MODEL) == 571_023_360
    assert flops_of(count, 1, CAUSAL) == 543_154_176
    assert flops_of(count, 1, EXECUTED) == 580_460_544
    assert flops_of(count, 1, MODEL, FORWARD) * 3 == 571_023_360
    assert dtypes_of(count, 1) == {"fp32": 571_023_360}
    assert (count.coverage, count.reason) == (1.0, None)


def test_a_convolutional_net_recorded_by_torch_matches_the_closed_form(tmp_path: Path) -> None:
    """Strided, grouped, depthwise and transposed convolutions and their gradients; the first input needs none."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 16 * 16, 10),
    )
    x = torch.randn(2, 3, 16, 16)
    first = 2 * 2 * 8 * 27 * 64
    forward = [first, 2 * 2 * 8 * 18 * 64, 2 * 2 * 8 * 9 * 64, 2 * 2 * 8 * 4 * 16 * 64, 2 * 2 * 1024 * 10]
    count = recorded(lambda: net(x).sum().backward(), tmp_path / "conv.json").flops
    assert flops_of(count, 1, MODEL, FORWARD) == sum(forward)
    assert flops_of(count, 1, MODEL, BACKWARD) == 2 * sum(forward) - first


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recorded_by_torch(tmp_path: Path, *, reentrant: bool) -> None:
    """The model is 3 forwards whatever is recomputed.

    Without re-entry torch stops before the last product runs. On a CPU the trace still shows that operator (a GPU trace has
    no kernel for it), so there the executed count is one product too high.
    """
    from torch.utils.checkpoint import checkpoint

    mlp = nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False))
    x = torch.randn(16, 32, requires_grad=True)
    unit = 2 * 2 * 16 * 32 * 32

    def step() -> None:
        loss: torch.Tensor = checkpoint(mlp, x, use_reentrant=reentrant).sum()
        torch.autograd.backward(loss)

    run = recorded(step, tmp_path / "checkpoint.json")
    assert flops_of(run.flops, 1, MODEL) == 3 * unit
    ops = find_counted_ops(run.trace, run.ops)  # before judging by their time which of them stopped
    again = [ops.costs[cost].executed for cost in ops.cost[ops.phase == RECOMPUTE].tolist()]
    assert sum(again) == 2 * unit  # two steps


@pytest.mark.parametrize(("layer", "forward", "backward"), [(nn.LSTM, 72_000, 144_000), (nn.GRU, 54_000, 100_800)])
def test_recurrent_layers_recorded_by_torch(
    tmp_path: Path, layer: Callable[[int, int], nn.Module], forward: int, backward: int
) -> None:
    """An LSTM is one fused operator on a CPU; a GRU is products, whose first state needs no gradient."""
    rnn = layer(10, 20)
    x = torch.randn(5, 3, 10, requires_grad=True)
    count = recorded(lambda: rnn(x)[0].sum().backward(), tmp_path / "rnn.json").flops
    assert flops_of(count, 1, MODEL, FORWARD) == forward
    assert flops_of(count, 1, MODEL, BACKWARD) == backward


def test_autocast_recorded_by_torch_is_bf16(tmp_path: Path) -> None:
    """The format is that of the cast operands, not of the parameters."""
    mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    x = torch.randn(32, 64)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = mlp(x).sum()
        loss.backward()

    count = recorded(step, tmp_path / "autocast.json").flops
    forward = 2 * 32 * 64 * (64 + 8)
    assert dtypes_of(count, 1) == {"bf16": 3 * forward - 2 * 32 * 64 * 64}


def test_frozen_layers_recorded_by_torch_have_no_gradient_work(tmp_path: Path) -> None:
    """Only the head's weight gradient: "3 x forward" would be 35 times too much for this backward."""
    body, head = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).requires_grad_(False), nn.Linear(256, 10)
    x = torch.randn(32, 256)
    count = recorded(lambda: head(body(x)).sum().backward(), tmp_path / "frozen.json").flops
    assert flops_of(count, 1, MODEL, FORWARD) == 8_552_448
    assert flops_of(count, 1, MODEL, BACKWARD) == 163_840


def test_a_step_counts_the_same_live_and_recorded(tmp_path: Path) -> None:
    """Products, convolutions, a recurrent layer and causal attention of grouped queries on more keys, with all gradients."""
    stem, up = nn.Conv2d(3, 8, 3, stride=2), nn.ConvTranspose2d(8, 4, 3, groups=2)
    lstm, head = nn.LSTM(36, 20), nn.Linear(20, 7)
    x = torch.randn(2, 3, 9, 9, requires_grad=True)
    q = torch.randn(2, 4, 5, 8, requires_grad=True)
    k, v = (torch.randn(2, 2, 9, 8, requires_grad=True) for _ in range(2))

    def step() -> None:
        seen = head(lstm(up(stem(x)).flatten(2).transpose(0, 1))[0]).sum()
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        torch.autograd.backward(seen + attended.sum())

    told = recorded(step, tmp_path / "step.json").flops
    seen = count_flops(step)
    assert seen.unknown == {}
    assert (seen.model, seen.causal, seen.executed) == tuple(flops_of(told, 1, m) for m in (MODEL, CAUSAL, EXECUTED))
    assert (seen.forward, seen.backward) == tuple(flops_of(told, 1, MODEL, phase) for phase in (FORWARD, BACKWARD))
    assert seen.causal < seen.model < seen.executed


FIRST, SECOND, DIRECTION = (
    80 * (10 + 20),
    80 * (40 + 20),
    80 * (20 + 20),
)  # elements of a layer's matrices, by its input


@pytest.mark.parametrize("needed", [False, True])
@pytest.mark.parametrize(
    ("options", "layers", "first_input"),
    [
        ({}, FIRST, 800),
        ({"num_layers": 2}, FIRST + DIRECTION, 800),
        ({"bidirectional": True}, 2 * FIRST, 1600),
        ({"bidirectional": True, "num_layers": 2}, 2 * FIRST + 2 * SECOND, 1600),
    ],
)
def test_an_input_whose_gradient_nobody_asks_for_has_none(
    tmp_path: Path, options: dict[str, int], layers: int, first_input: int, needed: bool
) -> None:
    """What a loader brings needs no gradient: of the first layer that is one product of four fewer."""
    torch.manual_seed(0)
    lstm, stem, x = nn.LSTM(10, 20, **options), nn.Linear(10, 10), torch.randn(5, 3, 10)

    def step() -> None:
        torch.autograd.backward(lstm(stem(x) if needed else x)[0].sum())

    count = recorded(step, tmp_path / "lstm.json").flops
    stem_only = 2 * 15 * 100 if needed else 0  # its weight alone
    expected = 2 * 15 * (2 * layers - (0 if needed else first_input)) + stem_only
    assert [flops_of(count, step, MODEL, BACKWARD) for step in range(2)] == [expected] * 2
    assert count_flops(step).backward == expected


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("product", [torch.sparse.mm, torch.matmul])
def test_a_sparse_product_is_not_counted_by_its_shape(
    tmp_path: Path, layout: torch.layout, product: Callable[..., torch.Tensor]
) -> None:
    """Of a matrix of 400 x 400 only some numbers are there: how many, no shape tells."""
    torch.manual_seed(0)
    graph = torch.eye(400).to_sparse(layout=layout)
    dense = nn.Linear(30, 20)

    def step() -> None:
        dense(product(graph, torch.ones(400, 30))).sum().backward()

    told = recorded(step, tmp_path / "sparse.json").flops
    known = 2 * 400 * 30 * 20
    assert [flops_of(told, at, MODEL, FORWARD) for at in range(2)] == [known] * 2
    assert told.unknown
    seen = count_flops(step)
    assert seen.forward == known
    assert seen.unknown
