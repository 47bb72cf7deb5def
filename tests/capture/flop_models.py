"""Small definitions of well-known networks, whose FLOPs are known from their papers' tables by hand."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """A GPT-2 block with fused causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.before(x)).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, width))
        return torch.as_tensor(x + self.down(functional.gelu(self.up(self.between(x)))))


class Gpt(nn.Module):
    """GPT-2 with a tied head; called with tokens, returns the loss of predicting them."""

    def __init__(self, layers: int, heads: int, width: int, *, context: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(self.norm(x)).flatten(0, 1), tokens.flatten())


class Residual(nn.Module):
    """A sum of a branch and its input, or of a projection of that."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.branch(x) + self.shortcut(x))


def unit(ins: int, outs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, normalization, activation."""
    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), nn.ReLU())


def resnet50() -> nn.Sequential:
    """ResNet-50 v1.5: the stride is in the 3x3 convolution."""
    layers: list[nn.Module] = [unit(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    ins = 64
    for width, count, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            stride = first if index == 0 else 1
            branch = nn.Sequential(unit(ins, width, 1), unit(width, width, 3, stride=stride), unit(width, 4 * width, 1))
            layers.append(Residual(branch, unit(ins, 4 * width, 1, stride=stride) if index == 0 else nn.Identity()))
            ins = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(ins, 1000))


def mobilenet_v2() -> nn.Sequential:
    """MobileNetV2, width 1: depthwise convolutions between expansions."""
    layers: list[nn.Module] = [unit(3, 32, 3, stride=2)]
    ins = 32
    shapes = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outs, count, first in shapes:
        for index in range(count):
            wide = ins * expansion
            spread = [unit(ins, wide, 1)] if expansion > 1 else []
            middle = unit(wide, wide, 3, stride=first if index == 0 else 1, groups=wide)
            branch = nn.Sequential(*spread, middle, unit(wide, outs, 1))
            layers.append(Residual(branch, nn.Identity()) if index else branch)
            ins = outs
    return nn.Sequential(*layers, unit(320, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
