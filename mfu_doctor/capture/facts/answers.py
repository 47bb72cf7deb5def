"""Numbers that a device was asked for without waiting, read when the recording is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def read_answers(asked: Sequence[Any]) -> list[Any]:
    """What is in these tensors, whichever stream each was made on. Waits for their devices."""
    import torch

    for device in {answer.device for answer in asked if answer.is_cuda}:
        torch.cuda.synchronize(device)
    return [answer.tolist() for answer in asked]
