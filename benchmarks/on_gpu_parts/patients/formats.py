"""Faults of number formats, sizes and layouts."""

from __future__ import annotations

import torch
from harness import Loop, device, repeat
from models import Convolutional, mlp

from on_gpu_parts.patients.loops import Patient, classify, fused, gpt, on_text, size, tokens, training


def fp32_without_tf32(fixed: bool) -> Loop:
    model = mlp(width=size(4096, 64)).to(device())
    plain = training(fused(model), classify(model, torch.randn(size(4096, 8), size(4096, 64), device=device())))

    def step(batch: None) -> None:
        torch.set_float32_matmul_precision("high" if fixed else "highest")
        plain(batch)

    return repeat(None), step


def fp64(fixed: bool) -> Loop:
    dtype = torch.float32 if fixed else torch.float64
    model = mlp(width=size(2048, 64)).to(device(), dtype)
    x = torch.randn(size(2048, 8), size(2048, 64), device=device(), dtype=dtype)
    return repeat(None), training(fused(model), classify(model, x))


def odd_vocabulary(fixed: bool) -> Loop:
    model = gpt(vocabulary=50304 if fixed else 50257)
    return on_text(model, tokens(size(50257, 97)))


def nchw_convolutions(fixed: bool) -> Loop:
    layout = torch.channels_last if fixed else torch.contiguous_format
    model = Convolutional(channels=size(128, 4), depth=size(6, 1)).to(device(), memory_format=layout)
    side = size(64, 8)
    images = torch.randn(size(64, 2), 3, side, side, device=device()).to(memory_format=layout)
    return repeat(None), training(fused(model), classify(model, images, 10))


PATIENTS = (
    Patient("fp32-without-tf32", "tf32-off", fp32_without_tf32, fp32=True),
    Patient("fp64", "fp64-work", fp64, fp32=True),
    Patient("odd-vocabulary", "misaligned-matmul", odd_vocabulary),
    Patient("nchw-convolutions", "layout-conversion", nchw_convolutions),
)
