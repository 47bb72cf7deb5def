"""What the report of a small trace costs beside what it cannot do without: Python, numpy, rich and typer.

    python benchmarks/small.py [TRACE] [--rounds 15]

Both run in processes of their own, by turns, so that what else the machine does meets both. The figure is the ratio of their
medians: of wall time where the machine is quiet, of processor time where it is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ROOT / "tests" / "fixtures" / "torch213_cpu.json.gz"  # 7 kB
NEEDED = "import numpy, rich, typer"


def measured(command: list[str]) -> tuple[float, float]:
    """Wall time and processor time of a command in seconds."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    wall, after = time.perf_counter() - start, os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="?", default=SMALL)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    report = [sys.executable, "-m", "mfu_doctor", "report", str(options.trace.resolve())]
    commands = {"mfu-doctor report": report, NEEDED: [sys.executable, "-c", NEEDED]}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_ in range(options.rounds + 1):
        for name, command in commands.items():
            taken = measured(command)
            if round_:  # the first one reads the files into the page cache
                found[name].append(taken)
    print(f"{options.trace.name}, {options.trace.stat().st_size / 1e3:.1f} kB, median of {options.rounds}")
    middle = {name: [statistics.median(kind) for kind in zip(*taken, strict=True)] for name, taken in found.items()}
    for name, (wall, spent) in middle.items():
        print(f"{name:<28}{wall:>8.3f} s{spent:>8.3f} CPU s")
    ratios = [ours / theirs for ours, theirs in zip(*middle.values(), strict=True)]
    print(f"{'ratio':<28}{ratios[0]:>8.2f}  {ratios[1]:>8.2f}")


if __name__ == "__main__":
    main()
