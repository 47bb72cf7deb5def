"""Exact FLOPs of transformer blocks that are trained in part, on the meta device: what "three times forward" gets wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch import nn
from torch.nn import functional

from mfu_doctor import count_flops
from tests.capture.flop_models import Gpt

# Llama 3 8B: width, key and value width (8 heads of 128), hidden width of the feed-forward part.
WIDTH, KEY_WIDTH, HIDDEN = 4096, 1024, 14336
HEADS, KEY_HEADS = 32, 8


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of rank 16 (LoRA)."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(ins, outs, bias=False).requires_grad_(False)
        self.down, self.up = nn.Linear(ins, 16, bias=False), nn.Linear(16, outs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.frozen(x) + self.up(self.down(x)))


class LlamaBlock(nn.Module):
    """Grouped-query attention and a gated feed-forward part."""

    def __init__(self, *, low_rank: bool = False) -> None:
        super().__init__()

        def linear(ins: int, outs: int) -> nn.Module:
            return LowRank(ins, outs) if low_rank else nn.Linear(ins, outs, bias=False)

        self.q, self.out = linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)
        self.k, self.v = linear(WIDTH, KEY_WIDTH), linear(WIDTH, KEY_WIDTH)
        self.gate, self.up, self.down = linear(WIDTH, HIDDEN), linear(WIDTH, HIDDEN), linear(HIDDEN, WIDTH)
        self.before, self.between = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        if low_rank:
            self.before.requires_grad_(False)
            self.between.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.before(x)
        q, k, v = (split(part(h), heads) for part, heads in ((self.q, HEADS), (self.k, KEY_HEADS), (self.v, KEY_HEADS)))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        h = self.between(x)
        return torch.as_tensor(x + self.down(functional.silu(self.gate(h)) * self.up(h)))


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


@pytest.mark.parametrize(
    ("low_rank", "tokens", "from_below", "forward", "backward"),
    [
        (False, 1024, True, 463_856_467_968, 927_712_935_936),
        (True, 1024, True, 466_540_822_528, 486_405_046_272),  # frozen weights need no gradient of their own
        (True, 1024, False, 466_540_822_528, 434_462_785_536),  # and below the first block nothing needs one
        (False, 8192, True, 4_672_924_418_048, 9_345_848_836_096),
    ],
)
def test_a_llama_block(*, low_rank: bool, tokens: int, from_below: bool, forward: int, backward: int) -> None:
    """Twice forward when everything is trained, 1.04 times with low-rank updates."""
    with torch.device("meta"):
        block, x = LlamaBlock(low_rank=low_rank), torch.randn(1, tokens, WIDTH, requires_grad=from_below)
        counted = count_flops(block, x)
    assert (counted.forward, counted.backward) == (forward, backward)


@pytest.mark.parametrize(
    ("layers", "heads", "width", "total"),
    [(24, 16, 1024, 2_480_853_221_376), (48, 25, 1600, 10_520_110_694_400)],
)
def test_larger_gpt2_is_exactly_three_times_its_forward(layers: int, heads: int, width: int, total: int) -> None:
    """The first operator is an embedding, whose input has no gradient to compute."""
    with torch.device("meta"):
        model = Gpt(layers, heads, width, context=1024, vocabulary=50257)
        counted = count_flops(model, torch.zeros(1, 1024, dtype=torch.long))
    assert (counted.model, counted.forward * 3) == (total, total)


class Vision(nn.Module):
    """ViT-B/16: a patch convolution, twelve encoder layers over 197 tokens, a head on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.first = nn.Parameter(torch.zeros(1, 1, 768))
        layers = (nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True, norm_first=True) for _ in range(12))
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(768, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        return torch.as_tensor(self.head(self.layers(torch.cat((self.first.expand(len(x), -1, -1), x), 1))[:, 0]))


def test_vit_b16() -> None:
    """Backward is twice forward, less the gradient of the image patches."""
    with torch.device("meta"):
        counted = count_flops(Vision(), torch.randn(1, 3, 224, 224))
    assert (counted.forward, counted.backward) == (35_127_656_448, 70_024_101_888)


class Experts(nn.Module):
    """Eight experts of which each token meets two; the routing is balanced here, as counting must not depend on luck."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 8, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False))
            for _ in range(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.router(x).softmax(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (torch.arange(len(x) // 4, device=x.device) * 4 + number) % len(x)
            out = out.index_add(0, rows, expert(x[rows]) * weight[rows, number, None])
        return out


def test_a_mixture_counts_the_experts_that_a_token_meets() -> None:
    """2 of 8 experts: "6 N tokens" would be four times too much."""
    with torch.device("meta"):
        mixture = Experts(1024, 4096)
        counted = count_flops(mixture, torch.randn(512, 1024, requires_grad=True))
    assert (counted.forward, counted.backward) == (17_188_257_792, 34_376_515_584)
    assert sum(p.numel() for p in mixture.parameters()) == 67_117_056
