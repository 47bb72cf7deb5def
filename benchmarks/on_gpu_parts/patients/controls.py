"""Healthy controls: both sides are the same program, and a finding is a false alarm."""

from __future__ import annotations

import shutil

import torch
from harness import Loop, device, repeat
from models import Convolutional, mlp

from on_gpu_parts.patients.loops import (
    Patient,
    classify,
    fused,
    gpt,
    graphed,
    in_bf16,
    next_token,
    on_text,
    size,
    tokens,
    training,
)


def compiled_gpt(fixed: bool) -> Loop:
    """A rehearsal traces and splits the model like a GPU would have it, and compiles no C++."""
    backend = "inductor" if device().type == "cuda" else "aot_eager"
    return on_text(torch.compile(gpt(), backend=backend), tokens(size(50304, 97)))


def channels_last_cnn(fixed: bool) -> Loop:
    layout, side = torch.channels_last, size(64, 8)
    model = Convolutional(channels=size(256, 4), depth=size(6, 1)).to(device(), memory_format=layout)
    images = torch.randn(size(64, 2), 3, side, side, device=device()).to(memory_format=layout)
    return repeat(None), training(fused(model), classify(model, images, 10))


def graphed_step(fixed: bool) -> Loop:
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=device().type == "cuda")
    return repeat(None), graphed(training(optimizer, in_bf16(next_token(model, tokens(size(50304, 97))))))


def large_matmuls(fixed: bool) -> Loop:
    width = size(8192, 64)
    model = mlp(width=width).to(device())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, fused=True)
    return repeat(None), training(optimizer, classify(model, torch.randn(size(8192, 8), width, device=device())))


NO_COMPILER = None if any(map(shutil.which, ("cc", "gcc", "clang"))) else "no C compiler, which torch.compile needs"
PATIENTS = (
    Patient("compiled-gpt", None, compiled_gpt, absent=NO_COMPILER),
    Patient("channels-last-cnn", None, channels_last_cnn),
    Patient("graphed-step", None, graphed_step, fp32=True, marks=True),
    Patient("large-matmuls", None, large_matmuls),
)
