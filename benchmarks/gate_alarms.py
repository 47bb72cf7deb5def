"""Does the gate cry wolf, and does it bark when it should? A/A and A/B comparisons of a small training loop on this machine.

    python benchmarks/gate_alarms.py                     32 rounds, about a quarter of an hour
    python benchmarks/gate_alarms.py --rounds 4 --runs 1

Every round runs four processes in rotating order: the loop (A), the same loop again (A'), and the loop with a slowdown of 10 %
and of 30 % planted (B). Each process records itself with `mfu_doctor.profile` and saves its report, as a user's CI job would.
A comparison judges a few consecutive rounds against each other with the default budget for a baseline (+5 % and twice the joint
spread), so neighbouring comparisons share runs where it takes more than one. The planted slowdown is a spin of that share of
the step's own time: it changes no FLOP, no operator and no sync.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = {"A": 0.0, "A'": 0.0, "+10 %": 0.10, "+30 %": 0.30}
WIDTH, LAYERS, BATCH = 384, 6, 256  # about 20 ms a step on one core
SKIP, TIMED, WARMUP, ACTIVE = 5, 60, 1, 3  # steps
MOST_DEATHS = 100
PEAK_FLOPS = 1e11  # given, so that no run measures the CPU's peak; MFU is not judged here


def train(slowdown: float, report: Path) -> None:
    """One run in this process: a few dozen steps of an MLP, each lengthened by its own share."""
    import torch

    import mfu_doctor

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 10))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    x, y = torch.randn(BATCH, WIDTH), torch.randint(0, 10, (BATCH,))
    trace = report.with_suffix(".trace.json.gz")
    options = {"skip": SKIP, "timed": TIMED, "warmup": WARMUP, "active": ACTIVE}
    with mfu_doctor.profile(trace, **options, peak_flops=PEAK_FLOPS, print_report=False) as doctor:
        for _ in range(SKIP + TIMED + WARMUP + ACTIVE + 5):
            began = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            until = time.perf_counter() + slowdown * (time.perf_counter() - began)
            while time.perf_counter() < until:
                pass
            optimizer.step()
    doctor.report.save(report)


def record(folder: Path, rounds: int) -> dict[str, list[Path]]:
    """Run every variant once per round, each in its own process, the order rotating."""
    out: dict[str, list[Path]] = {name: [] for name in VARIANTS}
    names, died = list(VARIANTS), 0
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            path = folder / f"{number:03}-{names.index(name)}.json"
            command = [sys.executable, __file__, "--train", str(VARIANTS[name]), "--report", str(path)]
            while subprocess.run(command, check=False).returncode != 0:
                died += 1  # said at the end: a process that dies is a fault of its own, not of the gate
                if died > MOST_DEATHS:
                    raise SystemExit(f"{died} processes died; the last was {' '.join(command)}")
            out[name].append(path)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    if died:
        print(f"{died} processes died and were run again")
    return out


def outcomes(base: list[Path], other: list[Path], runs: int) -> dict[str, int]:
    """Statuses of the step-time check over all windows of `runs` consecutive rounds, and how many verdicts failed."""
    from mfu_doctor.gate.judge import Policy, judge
    from mfu_doctor.result.report import Report

    before, after = ([Report.load(path) for path in paths] for paths in (base, other))
    counts: dict[str, int] = {"comparisons": 0, "verdict fails": 0}
    for first in range(len(before) - runs + 1):
        verdict = judge(after[first : first + runs], Policy(), baseline=before[first : first + runs])
        status = next(check.status for check in verdict.checks if check.name == "step-time")
        counts[status] = counts.get(status, 0) + 1
        counts["comparisons"] += 1
        counts["verdict fails"] += not verdict.ok
    return counts


def table(paths: dict[str, list[Path]], sizes: list[int]) -> str:
    """Rates as markdown."""
    rows = [
        "| comparison | runs a side | comparisons | failed | inconclusive | passed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for runs in sizes:
        for name in list(VARIANTS)[1:]:
            found = outcomes(paths["A"], paths[name], runs)
            total = found["comparisons"]
            shares = [
                f"{found.get(key, 0)} ({100 * found.get(key, 0) / total:.0f} %)"
                for key in ("verdict fails", "inconclusive", "passed")
            ]
            label = "A/A: false alarms" if VARIANTS[name] == 0 else f"A/B {name}: detected"
            rows.append(f"| {label} | {runs} | {total} | " + " | ".join(shares) + " |")
    return "\n".join(rows)


def spreads(paths: dict[str, list[Path]]) -> str:
    """How noisy the machine was: the medians of the runs of A, and the spread inside a run."""
    import statistics

    from mfu_doctor.result.report import Report

    times = [report.step_time_s for report in map(Report.load, paths["A"]) if report.step_time_s is not None]
    medians = [t.median for t in times]
    middle = statistics.median(medians)
    between = statistics.median(abs(m - middle) for m in medians) / middle
    inside = statistics.median(t.mad / t.median for t in times)
    widest = (max(medians) - min(medians)) / middle
    return (
        f"A: median step {middle * 1e3:.2f} ms; spread (MAD) inside a run {100 * inside:.1f} %,"
        f" between runs {100 * between:.1f} %, range of the runs' medians {100 * widest:.0f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 3], help="runs on each side of a comparison")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        train(given.train, given.report)
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths = record(Path(folder), given.rounds)
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},",
            end=" ",
        )
        print(f"{given.rounds} rounds in {time.monotonic() - began:.0f} s")
        print(spreads(paths))
        print()
        print(table(paths, given.runs))


if __name__ == "__main__":
    main()
