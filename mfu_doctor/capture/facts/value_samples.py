"""A few values of a tensor, as bytes: two results of an operator with the same sample are the same result.

Sixty-four elements spread over the memory of a tensor take 15 us. Real numbers that differ anywhere differ in most of them; of
whole numbers and truth values the sum is compared too. A tensor of one value only tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_ELEMENTS = 64
_GOLDEN = 0.6180339887498949  # multiples of it spread evenly, whatever their number


@dataclass(slots=True)
class Sampler:
    """Takes samples; remembers where, for each size."""

    _places: dict[int, Any] = field(default_factory=dict)

    def of(self, tensor: Any) -> bytes | None:
        """The sample of a tensor; None if it tells nothing, or cannot be taken from plain memory."""
        import torch

        # its elements are in one piece of memory, in whatever order: so are the results of operators
        if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
            return None
        flat = tensor.as_strided((tensor.numel(),), (1,), 0)
        taken = flat[self._at(tensor.numel())]
        sample = bytes(taken.view(torch.uint8).numpy())
        if sample == sample[: tensor.element_size()] * _ELEMENTS:
            return None
        exact = tensor.is_floating_point() or tensor.is_complex()
        return sample if exact else sample + str(int(flat.sum())).encode()

    def _at(self, size: int) -> Any:
        import torch

        if size not in self._places:
            self._places[size] = torch.tensor([int(i * _GOLDEN % 1.0 * size) for i in range(_ELEMENTS)], device="cpu")
        return self._places[size]
