"""What a compiled backward pass computes again is no model work: compiled steps that PyTorch records count as eager ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mfu_doctor import count_flops
from mfu_doctor.analysis.utilization.compiled_recompute import compiled_recompute
from mfu_doctor.analysis.utilization.counted_ops import RECOMPUTE
from mfu_doctor.analysis.utilization.flops import EXECUTED, MODEL
from mfu_doctor.analysis.views.nesting import nest_ops
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.trace import Category, EventArgs, Trace
from tests.analysis.test_recorded_flops import recorded
from tests.rules.judging import run_of
from tests.steps import flops_of
from tests.timeline import Timeline

# Its partition of forward and backward is that of the default compiler, which would take half a minute to make code of it.
COMPILER = "aot_eager_decomp_partition"
WIDTH = 32  # all matrices are square: their gradients have the same sizes


class Fused(nn.Module):
    """Fused attention and a square layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def parts(self, x: torch.Tensor) -> torch.Tensor:
        qkv: torch.Tensor = self.qkv(x).view(*x.shape[:2], 3, 2, WIDTH // 2)
        return qkv.permute(2, 0, 3, 1, 4)

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.parts(x)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(x + self.out(self.attended(x).transpose(1, 2).reshape(x.shape)))


class ByHand(Fused):
    """Attention as two products in batches, with as many queries as a head is wide: all its products have one size."""

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.parts(x)
        return torch.as_tensor((q @ k.transpose(2, 3)).softmax(-1) @ v)


class WithoutBias(nn.Module):
    """A square layer of each kind: one multiplies with its matrix, the other with the transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(WIDTH, WIDTH, bias=False), nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(torch.tanh(self.one(x)) @ self.other)


class Tied(nn.Module):
    """A square layer, then a matrix and the same one transposed: the gradient of one looks like the other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.both = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(x + torch.tanh(self.one(x) @ self.both) @ self.both.t())


class LowRank(nn.Module):
    """A frozen layer without bias, and two small trained ones beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 4, bias=False), nn.Linear(4, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.frozen(x) + self.up(self.down(x)))


class Convolving(nn.Module):
    """Convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(16, 16, 3, padding=1), nn.Tanh(), nn.Conv1d(16, 16, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layers(x))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "fused attention": Fused,
    "attention by hand": ByHand,
    "a matrix and a transposed one": WithoutBias,
    "a matrix and itself transposed": Tied,
    "low rank": LowRank,
    "convolutions": Convolving,
}
# In these a gradient has the shapes and strides of a product of the forward pass.
LOOK_ALIKE = ("attention by hand", "a matrix and a transposed one", "a matrix and itself transposed")


class Model(nn.Module):
    """Two blocks and a head; the first block's input needs no gradient."""

    def __init__(self, block: Callable[[], nn.Module], *, again: bool) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList([block(), block()]), nn.Linear(WIDTH, 5)
        self.again = again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.again else block(x)
        return torch.as_tensor(self.head(x)).square().mean()


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Each program is compiled as the first one."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "again"), [*((name, True) for name in BLOCKS), *((name, False) for name in LOOK_ALIKE)]
)
def test_model_flops_of_compiled_code_are_those_of_the_model(tmp_path: Path, name: str, again: bool) -> None:
    torch.manual_seed(0)
    model, x = Model(BLOCKS[name], again=again), torch.randn(2, 16, WIDTH)
    compiled = torch.compile(model, backend=COMPILER)
    count = recorded(lambda: torch.autograd.backward(compiled(x)), tmp_path / "step.json").flops
    exact = count_flops(lambda: torch.autograd.backward(model(x)))
    assert flops_of(count, 1, MODEL) == exact.model
    assert bool(flops_of(count, 1, EXECUTED, RECOMPUTE)) is again


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_block_that_is_checkpointed_from_outside(tmp_path: Path) -> None:
    model, x = Model(WithoutBias, again=True), torch.randn(2, 16, WIDTH)
    exact = count_flops(lambda: torch.autograd.backward(model(x)))
    for block in model.blocks:
        block.compile(backend=COMPILER)
    count = recorded(lambda: torch.autograd.backward(model(x)), tmp_path / "step.json").flops
    assert flops_of(count, 1, MODEL) == exact.model
    assert flops_of(count, 1, EXECUTED, RECOMPUTE)


PRODUCT: dict[str, Any] = {"dims": [[8, 4], [4, 6]], "strides": [[4, 1], [1, 4]], "types": ["float", "float"]}


def test_the_arguments_of_alike_calls_are_read_once_and_only_in_compiled_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps of thousands of calls are usual."""
    drawn = Timeline()
    for number in range(4):
        with drawn.step():
            for name in ("CompiledFunction", "CompiledFunctionBackward"):
                with drawn.span(name, "cpu_op", sequence=number):
                    for _ in range(20):
                        drawn.op("aten::mm", **PRODUCT)
            for _ in range(20):
                drawn.op("aten::mm", **PRODUCT)
    trace = run_of(drawn).trace
    tree, rows = nest_ops(trace), trace.rows(Category.CPU_OP)
    rows = rows[np.isin(trace.events.name[rows], trace.name_ids(frozenset({"aten::mm"})))]
    read, args_of = [], Trace.args_of

    def reading(trace: Trace, row: int) -> EventArgs | None:
        read.append(row)
        return args_of(trace, row)

    monkeypatch.setattr(Trace, "args_of", reading)
    cost = OpFlops(model=384, executed=384, causal=384, gemm=(1, 8, 6, 4))
    assert not compiled_recompute(trace, tree, rows, (cost,), np.zeros(len(rows), np.int64)).any()
    assert len(read) == 1
