"""The loss of a step: the value on which `backward()` was called, before a gradient scaler multiplied it.

Only the tensor is held, until the step has ended. To read its value waits for the device, so that is done where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.capture.loop.stopwatch import capturing_graph


@dataclass(slots=True)
class Losses:
    """Holds the loss of the running step, if that is wanted.

    Attributes:
        wanted: whether it is, in the step that runs.
    """

    wanted: bool = False
    _loss: Any = None
    _scaled: tuple[Any, Any] | None = None  # what a gradient scaler made, and of what
    _restore: Callable[[], None] | None = field(default=None, repr=False)

    def watch(self) -> None:
        """Also know what a gradient scaler multiplies."""
        from torch.amp.grad_scaler import GradScaler

        self._restore = patch(GradScaler, "scale", self._scaling)

    def stop(self) -> None:
        """Hold nothing any more, and leave the scaler alone; safe to call twice."""
        self.wanted, self._loss, self._scaled = False, None, None
        if self._restore is not None:
            self._restore()
            self._restore = None

    def begins(self, roots: Sequence[Any]) -> None:
        """A backward pass begins from these tensors; of several passes in one step the last one counts."""
        if not self.wanted:
            return
        root = roots[0] if len(roots) == 1 else None
        scaled = self._scaled  # kept to the end of the step: one pass may be told twice, by the tensor and by autograd
        self._loss = scaled[1] if scaled is not None and scaled[0] is root else root

    def take(self) -> Any:
        """The tensor of the step that has ended, None if it is not one number or was not wanted; it is held no more."""
        import torch

        loss, self._loss, self._scaled = self._loss, None, None
        return loss if type(loss) is torch.Tensor and loss.numel() == 1 else None

    def _scaling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def scale(scaler: Any, outputs: Any) -> Any:
            result = original(scaler, outputs)
            if self.wanted:
                self._scaled = result, outputs
            return result

        return scale


def value_of(loss: Any) -> float | None:
    """The number in a tensor that was taken, or None; waits for the device."""
    return None if loss is None or capturing_graph() else float(loss.item())
