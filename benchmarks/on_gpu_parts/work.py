"""Matrix products of a known number of FLOPs, on the GPU or, in a rehearsal, on the CPU."""

from __future__ import annotations

import time

import torch


def place(rehearse: bool) -> torch.device:
    """Where the parts work; a real run without a GPU is an error, not a slow success."""
    if not rehearse and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here: use --rehearse")
    return torch.device("cpu" if rehearse else "cuda")


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(a: torch.Tensor, b: torch.Tensor, seconds: float) -> float:
    """FLOP/s of the product of two matrices, repeated for so long; the first product is left out."""
    wait_for = a.device
    out = a @ b
    wait(wait_for)
    begin, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - begin < seconds:
        for _ in range(8):
            torch.matmul(a, b, out=out)
        wait(wait_for)
        done += 8
    flops = 2.0 * a.shape[0] * a.shape[1] * b.shape[1]
    return done * flops / (time.perf_counter() - begin)
