"""Matrix products of a known number of FLOPs, on the GPU or, in a rehearsal, on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

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


def rate(a: torch.Tensor, b: torch.Tensor, seconds: float, product: Callable[..., object] | None = None) -> float:
    """FLOP/s of the product of two matrices, repeated for so long; the first products are left out.

    The second product tells how many are given to the device at once: a format that a card computes slowly takes one at a time.
    """
    multiply = product or torch.matmul
    multiply(a, b)  # loads the library and picks a kernel
    begin = time.perf_counter()
    multiply(a, b)
    wait(a.device)
    at_once = max(min(int(seconds / 8 / (time.perf_counter() - begin)), 64), 1)
    begin, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - begin < seconds:
        for _ in range(at_once):
            multiply(a, b)
        wait(a.device)
        done += at_once
    return done * 2.0 * a.shape[0] * a.shape[1] * b.shape[1] / (time.perf_counter() - begin)
