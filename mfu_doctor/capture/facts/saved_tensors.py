"""What a node of autograd has saved for backward, read without running anything of the program's."""

from __future__ import annotations

from typing import Any


def saved_tensor(node: Any, name: str) -> Any:
    """A tensor that a node has saved under this raw name; None if hooks of the program keep it, or it is not in plain memory.

    The program may have freed its storage, to fill it again before backward comes: what has no bytes is not read.
    """
    import torch

    saved = getattr(node, name, None)
    # to unpack what has a hook would run it: a copy from the host, a checkpointed function once more
    if saved is None or getattr(saved, "unpack_hook", saved) is not None:
        return None
    tensor = saved.data
    if type(tensor) is not torch.Tensor or tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return None
    return tensor if is_held(tensor) else None


def is_held(tensor: Any) -> bool:
    """Whether the storage of a dense tensor has all of its numbers: the program may have freed it, to fill it again."""
    last = tensor.storage_offset() + sum((n - 1) * by for n, by in zip(tensor.shape, tensor.stride(), strict=True))
    return bool(tensor.untyped_storage().nbytes() >= (last + 1) * tensor.element_size())
