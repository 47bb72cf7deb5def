"""A pipeline of two stages: forwards of all micro-batches, then nothing; what the stages take is given."""

from __future__ import annotations

from tests.job.drawing import DrawnJob


def two_stages(first_us: float, second_us: float, *, micro_batches: int = 4) -> DrawnJob:
    drawn = DrawnJob(2)
    for _ in range(3):
        drawn.step()
        for _ in range(micro_batches):
            drawn.work({0: first_us})
            drawn.send(0, 1, 5)
            drawn.work({1: second_us})
        drawn.collective(0)
    return drawn
