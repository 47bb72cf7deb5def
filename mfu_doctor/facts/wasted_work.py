"""What steps compute that changes no result, as profile() counts it beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredTargets:
    """A classification loss that ignores targets (`ignore_index`), counted in steps beside the recorded ones."""

    targets: int = 0  # of all losses that were counted
    ignored: int = 0
    losses: int = 1  # how many were counted
    least: float = 0.0  # share that each of them ignores at the least
    sequence: tuple[int, ...] = ()  # autograd's numbers of its nodes, from the product that makes its logits on
