"""What a remedy does once, when an optimizer has stepped for the first time.

The hook stays, and does nothing any more: torch walks through all its hooks when it calls one, and raises if one is taken off
meanwhile and another one follows.
"""

from __future__ import annotations

from collections.abc import Callable


def after_first_step(act: Callable[[], None]) -> None:
    """Call this after the first step of an optimizer of torch."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    left = [act]

    def stepped(*_: object) -> None:
        if left:
            left.pop()()

    register_optimizer_step_post_hook(stepped)
