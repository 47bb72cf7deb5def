"""What the doctor costs a training run, as ratios in one run on this machine.

    python benchmarks/overhead.py --rounds 5

Each round trains the same small model three times in processes of its own, in rotating order: alone, under `mfu_doctor.profile`,
and under `torch.profiler` with the options of our timing window. A fourth process does next to nothing in each step. Printed are
medians over the rounds:

- un-profiled steps under the doctor against steps alone (its hooks), before and after the windows;
- a step of the doctor's timing window against a step under torch.profiler;
- bytes of the doctor's file per profiled step against those of torch.profiler's own file;
- microseconds of the training thread's CPU time that the hooks take in a step after the windows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WIDTH, LAYERS, BATCH = (
    256,
    12,
    64,
)  # many small operators: a few milliseconds a step, of which recording is a large part
SKIP, TIMED, WARMUP, ACTIVE, AFTER = 10, 80, 2, 10, 80  # steps
TRIVIAL, CHUNKS = 2000, 5  # steps of next to nothing, and how often so many are measured
STEPS = SKIP + TIMED + WARMUP + ACTIVE + 2 + AFTER  # two steps of the window for shapes


def loop(steps: int) -> tuple[Any, list[float]]:
    """A generator that trains one step each time it is asked, and the list into which it writes their seconds."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randn(BATCH, WIDTH)
    seconds: list[float] = []

    def step() -> None:
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)

    return (step() for _ in range(steps)), seconds


def alone() -> dict[str, float]:
    """Steps with nobody watching."""
    steps, seconds = loop(STEPS)
    for _ in steps:
        pass
    return {"step": statistics.median(seconds[SKIP:])}


def doctored(folder: Path) -> dict[str, float]:
    """The same under the doctor: steps before the windows, in the timing window, and after them."""
    import mfu_doctor

    steps, seconds = loop(STEPS)
    trace = folder / "ours.pt.trace.json"
    options: dict[str, Any] = {"skip": SKIP, "timed": TIMED, "warmup": WARMUP, "active": ACTIVE, "print_report": False}
    with mfu_doctor.profile(trace, peak_flops=1e11, **options):
        for _ in steps:
            pass
    first = SKIP + TIMED + WARMUP
    return {
        "before": statistics.median(seconds[SKIP : SKIP + TIMED]),
        "window": statistics.median(seconds[first : first + ACTIVE]),
        "after": statistics.median(seconds[-AFTER // 2 :]),
        "bytes": trace.stat().st_size / (ACTIVE + 1),
    }


def profiled(folder: Path) -> dict[str, float]:
    """The same under torch.profiler with the options of our timing window."""
    from torch.profiler import ProfilerActivity, profile

    steps, seconds = loop(SKIP + WARMUP + ACTIVE)
    for _ in range(SKIP):
        next(steps)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in steps:
            pass
    trace = folder / "torch.pt.trace.json"
    recorded.export_chrome_trace(str(trace))
    return {"window": statistics.median(seconds[-ACTIVE:]), "bytes": trace.stat().st_size / (WARMUP + ACTIVE)}


def trivial(folder: Path) -> dict[str, float]:
    """CPU time of a step that loads a number, runs one operator forward and backward, and has an optimizer do nothing."""
    import torch

    import mfu_doctor

    class Idle(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            """Update nothing."""

    torch.set_num_threads(1)
    weight = torch.ones(1, requires_grad=True)
    optimizer = Idle([weight], {})

    def step_us() -> float:
        """The least mean of several: other programs only make it longer."""
        chunks = []
        for _ in range(CHUNKS):
            begin = time.thread_time_ns()
            for _ in torch.utils.data.DataLoader(range(TRIVIAL), batch_size=None):  # type: ignore[arg-type]
                (weight * 1.0).backward()
                optimizer.step()
            chunks.append((time.thread_time_ns() - begin) / TRIVIAL / 1e3)
        return min(chunks)

    alone = step_us()
    with mfu_doctor.profile(folder / "trivial.pt.trace.json", peak_flops=1e11, print_report=False):
        step_us()  # the recording ends in the first of its steps
        watched = step_us()
    return {"alone": alone, "hooks": watched - min(alone, step_us())}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=("alone", "doctored", "profiled", "trivial"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        with tempfile.TemporaryDirectory() as folder:
            done = (
                alone()
                if given.one == "alone"
                else {"doctored": doctored, "profiled": profiled, "trivial": trivial}[given.one](Path(folder))
            )
        print(json.dumps(done))
        return
    rounds = [one_round(i) for i in range(given.rounds)]
    for name, over, under in (
        ("steps before the windows / alone", ("doctored", "before"), ("alone", "step")),
        ("steps after the windows / alone", ("doctored", "after"), ("alone", "step")),
        ("timing window / torch.profiler", ("doctored", "window"), ("profiled", "window")),
        ("bytes a profiled step / torch.profiler", ("doctored", "bytes"), ("profiled", "bytes")),
    ):
        ratios = sorted(r[over[0]][over[1]] / r[under[0]][under[1]] for r in rounds)
        print(f"{name:40} {statistics.median(ratios):6.3f}   ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    hooks = sorted(r["trivial"]["hooks"] for r in rounds)
    print(
        f"{'hooks in a step after the windows, us':40} {statistics.median(hooks):6.1f}   ({hooks[0]:.1f} to {hooks[-1]:.1f})"
    )
    print(
        f"a step alone takes {statistics.median(r['alone']['step'] for r in rounds) * 1e3:.2f} ms; {given.rounds} rounds"
    )


def one_round(number: int) -> dict[str, dict[str, float]]:
    """The processes, the three of training in an order that rotates."""
    names = ["alone", "doctored", "profiled"]
    done = {}
    for name in (*names[number % 3 :], *names[: number % 3], "trivial"):
        command = [sys.executable, __file__, "--one", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        done[name] = json.loads(output.splitlines()[-1])
    return done


if __name__ == "__main__":
    main()
