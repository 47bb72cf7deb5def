"""What it costs to be measured while training goes on, as ratios in one run on this machine.

    python benchmarks/meter.py --rounds 9

First `Meter`: steps of about 1, 10 and 100 ms train alone and with a meter, in blocks that take turns. Printed are the processor
time of the quick steps alone, how many times as long they take with a meter (median over the turns), and the time that a step
spends in the meter's own functions.

Then the report: `mfu-doctor run` on examples/nanogpt.py. Printed are the seconds from the closing of its windows to its report,
and what the steps meanwhile took against those after it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import mfu_doctor
from mfu_doctor.capture.loop.step_feed import StepFeed

WIDTH, BATCH = 128, 16
BLOCK = {1: 200, 10: 40, 100: 10}  # steps of a block, by milliseconds of a step
EXAMPLE = Path(__file__).parents[1] / "examples" / "nanogpt.py"
CLOSED, REPORT, COST = "recorded, profiler off", "Step time breakdown", "the report was made beside"


@dataclass(slots=True)
class Loop:
    """Steps of a number of micro-batches each; `ratios` of those with a meter to those alone, `own` seconds in the meter."""

    milliseconds: int
    micro: int = 1
    alone: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    def train(self, after: Callable[[], object] = lambda: None) -> float:
        """One block; the seconds of its quick steps, by the processor time of the thread."""
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        times, began = [], time.thread_time()
        for (x,) in DataLoader(TensorDataset(torch.randn(BATCH * BLOCK[self.milliseconds], WIDTH)), BATCH):
            for _ in range(self.micro):
                model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            after()
            now = time.thread_time()
            times.append(now - began)
            began = now
        return statistics.quantiles(times, n=4)[0]

    def fit(self) -> None:
        """Find how many micro-batches take the time of a step."""
        self.train()
        self.micro = max(round(self.milliseconds / 1e3 / self.train()), 1)

    def turn(self) -> None:
        """A block alone, and one with a meter."""
        self.alone.append(self.train())
        with mfu_doctor.Meter(peak_flops=1e12) as meter:
            self.train(meter.step)  # its counted step is here
            self.ratios.append(self.train(meter.step) / self.alone[-1])

    def inside(self) -> None:
        """A block that takes the time of the meter's own functions: of `step()`, and of what looks at each batch."""
        look = StepFeed._look_at_batch
        spent: list[float] = []

        def looking(*args: object) -> None:
            began = time.perf_counter()
            look(*args)  # type: ignore[arg-type]
            spent.append(time.perf_counter() - began)

        with mfu_doctor.Meter(peak_flops=1e12) as meter:
            self.train(meter.step)

            def stepping() -> None:
                began = time.perf_counter()
                meter.step()
                self.own.append(time.perf_counter() - began + sum(spent))
                spent.clear()

            StepFeed._look_at_batch = looking  # type: ignore[method-assign]
            self.train(stepping)
            StepFeed._look_at_batch = look  # type: ignore[method-assign]


def report(steps: int) -> str:
    """One run of the example whose report comes while it trains."""
    command = [sys.executable, "-m", "mfu_doctor", "run", str(EXAMPLE), "--steps", str(steps)]
    seen: dict[str, float] = {}
    cost = "the report came at the end: give the run more steps"
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as ran:
        assert ran.stderr is not None
        for line in ran.stderr:
            said = line.decode()
            for words in (CLOSED, REPORT):
                if words in said:
                    seen.setdefault(words, time.monotonic())
            cost = said.strip() if COST in said else cost
    between = (
        f"{seen[REPORT] - seen[CLOSED]:.1f} s from the closing of the windows to the report; " if len(seen) == 2 else ""
    )
    return f"{between}{cost.removeprefix('mfu-doctor: ')}"


def main() -> None:
    """Print one line for each length of a step, and one of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=300, help="of the run that has a report")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for milliseconds in BLOCK:
        loop = Loop(milliseconds)
        loop.fit()
        for _ in range(options.rounds):
            loop.turn()
        loop.inside()
        first, middle, _ = statistics.quantiles(loop.own, n=4)
        print(
            f"{statistics.median(loop.alone) * 1e3:7.2f} ms a step: x {statistics.median(loop.ratios):.4f} with a meter, "
            f"{middle * 1e6:.1f} us of it in its own functions ({first * 1e6:.1f} in the quick quarter)"
        )
    print(report(options.steps))


if __name__ == "__main__":
    main()
