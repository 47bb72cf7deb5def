"""What it costs to be measured while training goes on, as ratios in one run on this machine.

    python benchmarks/meter.py --rounds 9

First `Meter`: steps of about 1, 10 and 100 ms train alone and with a meter, in blocks that take turns; and steps of wide layers.
Their tensors fill the caches of the core, and then all else takes several times as long. Printed are the processor time of the
quick steps alone, how many times as long they take with a meter (median over the turns), and the time that a step spends in all
functions of the meter: what it does in each step, and its part of what is worked out for many at once.

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

import mfu_doctor
from mfu_doctor.capture.loop.patches import patch

BATCH = 16
LOOPS = ((128, 1), (128, 10), (128, 100), (1024, 10))  # width of the layers, milliseconds of a step
BLOCK = {1: 200, 10: 40, 100: 10}  # steps of a block, by milliseconds of a step
TOGETHER = 40  # steps that wait
EXAMPLE = Path(__file__).parents[1] / "examples" / "nanogpt.py"
CLOSED, REPORT, COST = "recorded, profiler off", "Step time breakdown", "the report was made beside"


@dataclass(slots=True)
class Loop:
    """Steps of a number of micro-batches each; `ratios` of those with a meter to those alone, `own` seconds in the meter."""

    width: int
    milliseconds: int
    micro: int = 1
    alone: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    own: float = 0.0

    def train(self, after: Callable[[], object] = lambda: None) -> float:
        """One block; the seconds of its quick steps, by the processor time of the thread."""
        torch.manual_seed(0)
        model = torch.nn.Sequential(self._layer(), torch.nn.ReLU(), self._layer())
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        times, began = [], time.thread_time()
        for (x,) in DataLoader(TensorDataset(torch.randn(BATCH * BLOCK[self.milliseconds], self.width)), BATCH):
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
        """A block that takes the time of the meter's own functions, less what to take it costs without a meter."""
        taking, _ = self._around(metered=False)
        taken, together = self._around(metered=True)
        self.own = taken - taking + together

    def _around(self, *, metered: bool) -> tuple[float, float]:
        """Of a step the median seconds in `step()` and around torch's own functions; and those to work out a waiting step."""
        spent: list[float] = []
        with ExitStack() as stack:
            theirs = stack.enter_context(timed())
            meter = stack.enter_context(mfu_doctor.Meter(peak_flops=1e12)) if metered else None
            step = (lambda: None) if meter is None else meter.step
            self.train(step)
            both = stack.enter_context(timed())

            def stepping() -> None:
                began = time.perf_counter()
                step()
                spent.append(time.perf_counter() - began + sum(both) - sum(theirs))
                both.clear()
                theirs.clear()

            theirs.clear()
            self.train(stepping)
            each = [] if meter is None else [worked_out(meter, self.width) for _ in range(TOGETHER)]
        return statistics.median(spent), statistics.median(each or [0.0])

    def _layer(self) -> torch.nn.Linear:
        return torch.nn.Linear(self.width, self.width)


def worked_out(meter: mfu_doctor.Meter, width: int) -> float:
    """Seconds for each of some steps that waited, worked out at once."""
    for _ in DataLoader(TensorDataset(torch.zeros(BATCH * TOGETHER, width)), BATCH):
        meter.step()
    began = time.perf_counter()
    _ = meter.peak
    return (time.perf_counter() - began) / TOGETHER


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds of each call of torch's functions that a meter replaces, with what stands around them so far."""
    spent: list[float] = []

    def timing(original: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - began)

        return called

    undo = [patch(_BaseDataLoaderIter, "__next__", timing), patch(torch.autograd, "_engine_run_backward", timing)]
    yield spent
    for leave in undo:
        leave()


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
    for width, milliseconds in LOOPS:
        loop = Loop(width, milliseconds)
        loop.fit()
        for _ in range(options.rounds):
            loop.turn()
        loop.inside()
        print(
            f"{statistics.median(loop.alone) * 1e3:7.2f} ms a step, layers of {width}: x {statistics.median(loop.ratios):.4f} "
            f"with a meter, {loop.own * 1e6:.1f} us of it in its own functions"
        )
    print(report(options.steps))


if __name__ == "__main__":
    main()
