"""What the tests of cautions start from: a sound run."""

from __future__ import annotations

from tests.timeline import Timeline


def loop(lengths: tuple[int, ...] = (1_000,) * 7) -> Timeline:
    """One matmul a step, of these lengths in microseconds, and something of a backward pass."""
    drawn = Timeline()
    for us in lengths:
        with drawn.step():
            drawn.op("aten::mm", kernel=us, dims=[[512, 512], [512, 512]], types=["float", "float"])
            drawn.op("autograd::engine::evaluate_function: MmBackward0")
    return drawn
