"""What `Meter` costs a step, as ratios in one run on this machine.

    python benchmarks/meter.py --rounds 5

Steps of about 1, 10 and 100 ms train alone and with a meter, in blocks that take turns. Printed are the time of the quick steps
alone, and how many times as long, and how many microseconds longer, they take with a meter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader, TensorDataset

import mfu_doctor

WIDTH, BATCH = 128, 16
BLOCK = {1: 300, 10: 60, 100: 10}  # steps of a block, by milliseconds of a step
LOW = 0.25  # the quarter of quickest steps: what others do on this machine only adds


@dataclass(slots=True)
class Loop:
    """Steps of a number of micro-batches each; `seconds` of those alone and of those with a meter."""

    milliseconds: int
    micro: int = 1
    alone: list[float] = field(default_factory=list)
    metered: list[float] = field(default_factory=list)

    def train(self, times: list[float], after: Callable[[], object] = lambda: None) -> None:
        """One block of steps."""
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        began = time.perf_counter()
        for (x,) in DataLoader(TensorDataset(torch.randn(BATCH * BLOCK[self.milliseconds], WIDTH)), BATCH):
            for _ in range(self.micro):
                model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            after()
            now = time.perf_counter()
            times.append(now - began)
            began = now

    def fit(self) -> None:
        """Find how many micro-batches take the time of a step."""
        times: list[float] = []
        self.train([])
        self.train(times)
        self.micro = max(round(self.milliseconds / 1e3 / low(times)), 1)


def low(times: list[float]) -> float:
    """The time of the quick steps."""
    return statistics.quantiles(times, n=round(1 / LOW))[0]


def main() -> None:
    """Print one line for each length of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for milliseconds in BLOCK:
        loop = Loop(milliseconds)
        loop.fit()
        for _ in range(rounds):
            loop.train(loop.alone)
            with mfu_doctor.Meter(peak_flops=1e12) as meter:
                loop.train([], meter.step)  # its counted step is here
                loop.train(loop.metered, meter.step)
        alone, metered = low(loop.alone), low(loop.metered)
        print(f"{alone * 1e3:7.2f} ms a step: x {metered / alone:.4f} ({(metered - alone) * 1e6:+.1f} us)")


if __name__ == "__main__":
    main()
