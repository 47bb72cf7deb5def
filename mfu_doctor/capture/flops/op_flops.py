"""FLOPs of one operator call, in the three ways that they are asked for.

One type, so that the formulas return all three at once and the counter only adds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpFlops:
    """FLOP of one call or of several, one multiply-accumulate being two.

    Attributes:
        model: what the mathematics needs, attention over the full square.
        causal: `model` without masked pairs.
        executed: what the kernel does.
    """

    model: int = 0
    causal: int = 0
    executed: int = 0

    @staticmethod
    def plain(flops: int) -> OpFlops:
        """An operator for which the three are equal."""
        return OpFlops(flops, flops, flops)

    def times(self, factor: int) -> OpFlops:
        """The same call with every product counted `factor` times (complex numbers: four real products)."""
        return OpFlops(self.model * factor, self.causal * factor, self.executed * factor)

    def plus(self, other: OpFlops) -> OpFlops:
        """Both calls together."""
        return OpFlops(self.model + other.model, self.causal + other.causal, self.executed + other.executed)
