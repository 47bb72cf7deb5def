"""Whole models, operator by operator, against totals that are published or derived by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.flops.test_flop_formulas import conv, conv_backward, cost, sdpa


def gpt2(layers: int, width: int, vocab: int, time: int, batch: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Operators of one GPT-2 forward pass that multiply."""
    tokens, heads = batch * time, width // 64
    block: list[tuple[str, tuple[Any, ...]]] = [
        ("mm", ((tokens, width), (width, 3 * width))),
        ("_scaled_dot_product_flash_attention", ((batch, heads, time, 64),) * 3 + (0.0, True)),
        ("mm", ((tokens, width), (width, width))),
        ("mm", ((tokens, width), (width, 4 * width))),
        ("mm", ((tokens, 4 * width), (4 * width, width))),
    ]
    return block * layers + [("mm", ((tokens, width), (width, vocab)))]


@pytest.mark.parametrize(
    ("sizes", "forward"),
    [
        ((12, 768, 50_304, 1024, 12), 3_500_666_781_696),  # nanoGPT's GPT-2 124M
        ((12, 768, 50_257, 1024, 12), 10_499_339_059_200 // 3),
        ((24, 1024, 50_257, 1024, 1), 826_951_073_792),  # gpt2-medium
        ((48, 1600, 50_257, 1024, 1), 3_506_703_564_800),  # gpt2-xl
        ((6, 384, 65, 256, 64), 387_364_945_920),  # nanoGPT's shakespeare_char
    ],
)
def test_gpt2_family(sizes: tuple[int, int, int, int, int], forward: int) -> None:
    """Whole forward passes, matmul by matmul; backward is exactly twice this."""
    assert sum(cost(name, *values).model for name, values in gpt2(*sizes)) == forward


def test_gpt2_attention_is_the_products_of_queries_keys_and_values() -> None:
    """12 layers x 4 B T^2 d."""
    ops = [cost(n, *v).model for n, v in gpt2(12, 768, 50_304, 1024, 12) if "attention" in n]
    assert sum(ops) == 463_856_467_968


def llama_block(*, rank: int = 0) -> list[tuple[int, int, bool]]:
    """(in, out, trainable) of the linears of one Llama-3-8B block, with LoRA pairs of a rank."""
    sizes = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14_336), (4096, 14_336), (14_336, 4096)]
    base = [(i, o, rank == 0) for i, o in sizes]
    return base + [pair for i, o in sizes for pair in ((i, rank, True), (rank, o, True)) if rank]


def products(time: int, layers: list[tuple[int, int, bool]], *, backward: bool) -> int:
    """FLOPs of these linears: forward, or the data gradient of all and the weight gradient of the trainable ones."""
    total = 0
    for inputs, outputs, trainable in layers:
        one = cost("mm", (time, inputs), (inputs, outputs)).model
        total += one * (1 + trainable) if backward else one
    return total


def test_llama_block_full_and_lora() -> None:
    """A frozen base has no weight gradients: LoRA's backward is 1.04x its forward, where "3x" tools claim 2x."""
    attention = sdpa((1, 32, 8192, 128), (1, 8, 8192, 128)).model
    assert products(8192, llama_block(), backward=False) == 3_573_412_790_272
    assert products(8192, llama_block(), backward=False) + attention == 4_672_924_418_048
    assert products(8192, llama_block(), backward=True) + 2 * attention == 9_345_848_836_096
    short = sdpa((1, 32, 1024, 128), (1, 8, 1024, 128)).model
    lora = llama_block(rank=16)
    assert products(1024, llama_block(), backward=False) + short == 463_856_467_968
    forward = products(1024, lora, backward=False) + short
    backward = products(1024, lora, backward=True) + 2 * short
    assert (forward, backward) == (466_540_822_528, 486_405_046_272)


def test_llama_3_8b_whole() -> None:
    """32 blocks and an untied head; the embedding lookup is 0."""
    block = products(8192, llama_block(), backward=False) + sdpa((1, 32, 8192, 128), (1, 8, 8192, 128)).model
    head = cost("mm", (8192, 4096), (4096, 128_256)).model
    assert 32 * block + head == 158_140_695_838_720
    assert 3 * (32 * block + head) == 474_422_087_516_160


def test_mixture_of_experts_counts_the_experts_that_run() -> None:
    """Top 2 of 8 experts, and the router; counting all experts is 4x too much."""
    time, d, f, experts, top = 512, 1024, 4096, 8, 2
    rows = time * top
    router = cost("mm", (time, d), (d, experts)).model
    up = cost("_grouped_mm", (rows, d), (experts, d, f)).model
    down = cost("_grouped_mm", (rows, f), (experts, f, d)).model
    assert router == 8_388_608
    assert router + up + down == 17_188_257_792


Layer = tuple[tuple[int, ...], tuple[int, ...], int, int, int]  # x, weight, stride, padding, groups


def resnet(blocks: Sequence[int], *, bottleneck: bool) -> list[Layer]:
    """Convolutions of a ResNet v1.5 at 224 x 224, batch 1."""
    layers: list[Layer] = [((1, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1)]
    size, channels = 56, 64
    for stage, count in enumerate(blocks):
        mid = 64 * 2**stage
        out = 4 * mid if bottleneck else mid
        for block in range(count):
            stride = 2 if stage and not block else 1
            after = size // stride
            if bottleneck:
                layers += [
                    ((1, channels, size, size), (mid, channels, 1, 1), 1, 0, 1),
                    ((1, mid, size, size), (mid, mid, 3, 3), stride, 1, 1),
                    ((1, mid, after, after), (out, mid, 1, 1), 1, 0, 1),
                ]
            else:
                layers += [
                    ((1, channels, size, size), (mid, channels, 3, 3), stride, 1, 1),
                    ((1, mid, after, after), (mid, mid, 3, 3), 1, 1, 1),
                ]
            if stride != 1 or channels != out:
                layers.append(((1, channels, size, size), (out, channels, 1, 1), stride, 0, 1))
            size, channels = after, out
    return layers


def mobilenet_v2() -> list[Layer]:
    """Convolutions of MobileNetV2 at 224 x 224, batch 1 (Sandler et al., table 2)."""
    layers: list[Layer] = [((1, 3, 224, 224), (32, 3, 3, 3), 2, 1, 1)]
    size, channels = 112, 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, out, count, first in stages:
        for block in range(count):
            stride, wide = (first if block == 0 else 1), channels * expand
            if expand != 1:
                layers.append(((1, channels, size, size), (wide, channels, 1, 1), 1, 0, 1))
            layers.append(((1, wide, size, size), (wide, 1, 3, 3), stride, 1, wide))
            size //= stride
            layers.append(((1, wide, size, size), (out, wide, 1, 1), 1, 0, 1))
            channels = out
    return [*layers, ((1, channels, size, size), (1280, channels, 1, 1), 1, 0, 1)]


def forward_and_backward(layers: list[Layer]) -> tuple[int, int]:
    """Sum over convolutions; the first has no input gradient."""
    total_forward = total_backward = 0
    for i, (x, w, stride, padding, groups) in enumerate(layers):
        out = (x[2] + 2 * padding - w[2]) // stride + 1
        total_forward += conv(x, w, stride=stride, padding=padding, groups=groups).model
        total_backward += conv_backward((x[0], w[0], out, out), x, w, [i > 0, True, False]).model
    return total_forward, total_backward


def test_resnet_50() -> None:
    """4.089 GMAC; backward is twice forward less the stem's input gradient."""
    forward, backward = forward_and_backward(resnet((3, 4, 6, 3), bottleneck=True))
    head = cost("addmm", (1000,), (1, 2048), (2048, 1000), 1, 1).model
    assert forward + head == 8_178_368_512
    assert backward + 2 * head == 16_120_709_120


def test_resnet_18_and_its_checkpointed_recompute() -> None:
    """Convolutions only, batch 10: what the MI300X fixture runs, with everything but the stem recomputed."""
    layers = resnet((2, 2, 2, 2), bottleneck=False)
    forward, backward = forward_and_backward(layers)
    stem = conv(layers[0][0], layers[0][1], stride=2, padding=3).model
    assert (10 * forward, 10 * backward, 10 * (forward - stem)) == (36_271_226_880, 70_182_174_720, 33_910_947_840)


def test_mobilenet_v2() -> None:
    """Depthwise gradients; PyTorch's FlopCounterMode (2.13) says 11,678,152,448 for this backward."""
    forward, backward = forward_and_backward(mobilenet_v2())
    head = cost("addmm", (1000,), (1, 1280), (1280, 1000), 1, 1).model
    assert forward + head == 601_548_544
    assert backward + 2 * head == 1_181_421_056


def test_vit_b_16() -> None:
    """197 tokens; patches, linears and attention apart."""
    patches = conv((1, 3, 224, 224), (768, 3, 16, 16), stride=16).model
    sizes = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
    linears = 12 * sum(cost("addmm", (o,), (197, i), (i, o), 1, 1).model for i, o in sizes)
    head = cost("addmm", (1000,), (1, 768), (768, 1000), 1, 1).model
    attention = 12 * sdpa((1, 12, 197, 64), (1, 12, 197, 64)).model
    assert (patches, linears + head, attention) == (231_211_008, 33_465_790_464, 1_430_654_976)
    assert 2 * (patches + linears + head + attention) - patches == 70_024_101_888


def test_bert_base_encoder() -> None:
    """12 (24 d^2 T + 4 d T^2)."""
    sizes = ((768, 768),) * 4 + ((768, 3072), (3072, 768))
    linears = sum(cost("addmm", (o,), (512, i), (i, o), 1, 1).model for i, o in sizes)
    assert 12 * (linears + sdpa((1, 12, 512, 64), (1, 12, 512, 64)).model) == 96_636_764_160


def test_frozen_backbone() -> None:
    """Only the head's weight gradient is left of the backward pass."""
    sizes = ((256, 256), (256, 256), (256, 10))
    forward = sum(cost("addmm", (o,), (32, i), (i, o), 1, 1).model for i, o in sizes)
    assert (forward, cost("mm", (10, 32), (32, 256)).model) == (8_552_448, 163_840)
