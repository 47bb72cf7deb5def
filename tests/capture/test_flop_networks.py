"""Exact FLOPs of whole networks and whole steps, live, against closed forms and against the count from a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from mfu_doctor import count_flops
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import CAUSAL, EXECUTED, MODEL
from mfu_doctor.reading import read_trace
from tests.capture.flop_models import Gpt, mobilenet_v2, resnet50


@pytest.mark.parametrize(
    ("sizes", "batch", "parameters", "total"),
    [
        (
            {"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocabulary": 50304},
            12,
            123_587_328,
            10_502_000_345_088,
        ),
        (
            {"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocabulary": 50257},
            12,
            123_551_232,
            10_499_339_059_200,
        ),
        ({"layers": 6, "heads": 6, "width": 384, "context": 256, "vocabulary": 65}, 64, 10_646_784, 1_162_094_837_760),
    ],
)
def test_gpt2_on_the_meta_device(sizes: dict[str, int], batch: int, parameters: int, total: int) -> None:
    """A model that nobody has memory for is counted: 3 x (2 x (12 d^2 L + V d) + 4 L d T) per token."""
    context = sizes["context"]
    with torch.device("meta"):
        model = Gpt(**sizes)
        tokens = torch.zeros(batch, context, dtype=torch.long)
    counted = count_flops(model, tokens)
    assert sum(p.numel() for p in model.parameters()) - model.places.weight.numel() == parameters
    assert counted.model == counted.executed == total
    assert counted.forward * 3 == total
    assert any("its masked part is counted" in note for note in counted.notes)


@pytest.mark.parametrize(
    ("build", "forward", "backward"),
    [
        (resnet50, 8_178_368_512, 16_120_709_120),
        (mobilenet_v2, 601_548_544, 1_181_421_056),
    ],
)
def test_convolutional_networks(build: Callable[[], nn.Module], forward: int, backward: int) -> None:
    """Backward is twice forward, less the gradient of the images; depthwise convolutions are not overcounted."""
    with torch.device("meta"):
        counted = count_flops(build(), torch.randn(1, 3, 224, 224))
    assert (counted.forward, counted.backward) == (forward, backward)


def test_a_frozen_backbone_has_no_gradient_work() -> None:
    """Only the head's weight gradient: "3 x forward" would be 35 times too much for this backward."""
    body, head = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)).requires_grad_(False), nn.Linear(256, 10)
    counted = count_flops(nn.Sequential(body, head), torch.randn(32, 256))
    assert (counted.forward, counted.backward) == (8_552_448, 163_840)


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "backward"),
    [
        (lambda: nn.Conv1d(80, 512, 10, 5), (1, 80, 16_000), 2_620_620_800, 2_620_620_800),
        (lambda: nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3)), (1, 3, 16, 112, 112), 2_832_334_848, 2_832_334_848),
    ],
)
def test_convolutions_in_one_and_three_dimensions(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], forward: int, backward: int
) -> None:
    """A first layer has a weight gradient only."""
    with torch.device("meta"):
        counted = count_flops(layer(), torch.randn(shape))
    assert (counted.forward, counted.backward) == (forward, backward)


def test_a_transposed_convolution_counts_input_positions() -> None:
    with torch.device("meta"):
        counted = count_flops(nn.ConvTranspose2d(256, 128, 4, 2, 1), torch.randn(1, 256, 32, 32, requires_grad=True))
    assert (counted.forward, counted.backward) == (1_073_741_824, 2_147_483_648)


Build: TypeAlias = Callable[[], Callable[[], None]]


def tiny_gpt_step() -> Callable[[], None]:
    """Forward, backward and AdamW of six layers of width 96."""
    model = Gpt(6, 6, 96, context=64, vocabulary=65)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(65, (2, 64))

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(model(tokens))
        optimizer.step()

    return step


def small_conv_step() -> Callable[[], None]:
    """Strided, grouped, depthwise and transposed convolutions with a linear head."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 16 * 16, 10),
    )
    x = torch.randn(2, 3, 16, 16)
    return lambda: torch.autograd.backward(net(x).sum())


@pytest.mark.parametrize(
    ("build", "model", "causal", "executed"),
    [
        (tiny_gpt_step, 571_023_360, 543_154_176, 580_460_544),
        (small_conv_step, 792_576, 792_576, 792_576),
    ],
)
def test_the_live_count_is_the_trace_count(
    tmp_path: Path, build: Build, model: int, causal: int, executed: int
) -> None:
    """Two ways to the same number, to 0.1 %: operands seen live, and shapes that the profiler wrote.

    The optimizer, the loss and the normalizations multiply nothing.
    """
    step = build()
    live = count_flops(step)
    assert (live.model, live.causal, live.executed) == (model, causal, executed)
    assert (live.unknown, live.notes) == ({}, ())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        for i in range(2):
            with torch.profiler.record_function(f"ProfilerStep#{i}"):
                step()
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))
    offline = Run(read_trace(path)).flops
    for kind, counted in ((MODEL, live.model), (CAUSAL, live.causal), (EXECUTED, live.executed)):
        assert offline.flops(kind) == pytest.approx(counted, rel=1e-3)


def gradient_penalty_step() -> Callable[[], None]:
    """A loss with the gradient of a network in it, as WGAN-GP and double backpropagation have."""
    net = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
    x = torch.randn(8, 16, requires_grad=True)

    def step() -> None:
        (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        torch.autograd.backward((gradient.norm(2, dim=1) - 1).square().mean())

    return step


def test_a_gradient_that_is_recorded_for_a_second_one_is_no_recomputation(tmp_path: Path) -> None:
    step = gradient_penalty_step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        for i in range(2):
            with torch.profiler.record_function(f"ProfilerStep#{i}"):
                step()
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))
    offline = Run(read_trace(path)).flops
    assert offline.flops(EXECUTED) == offline.flops(MODEL) > 0


def test_tensor_parallel_ranks_count_their_own_share() -> None:
    """Local shapes of a distributed tensor, whose global shapes would count everything four times; also in the first step,
    when torch propagates shapes through operators that run nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        module = nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False))
        plan: dict[str, ParallelStyle] = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallelize_module(module, init_device_mesh("cpu", (4,)), plan)
        x = torch.randn(16, 32)
        counts = [count_flops(lambda: torch.autograd.backward(module(x).sum())).model for _ in range(2)]
    finally:
        dist.destroy_process_group()
    product = 2 * 16 * 32 * 32
    assert counts == [5 * product // 4] * 2
