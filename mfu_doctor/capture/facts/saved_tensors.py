"""What a node of autograd has saved for backward, read without running anything of the program's."""

from __future__ import annotations

from typing import Any


def saved_tensor(node: Any, name: str) -> Any:
    """A tensor that a node has saved under this raw name; None if hooks of the program keep it, or it is not in plain memory."""
    import torch

    saved = getattr(node, name, None)
    # to unpack what has a hook would run it: a copy from the host, a checkpointed function once more
    if saved is None or getattr(saved, "unpack_hook", saved) is not None:
        return None
    tensor = saved.data
    return None if type(tensor) is not torch.Tensor or tensor.is_meta or not tensor.numel() else tensor
