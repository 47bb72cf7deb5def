"""`python -m tests.fuzz.growth [KIND...]`: processor time and memory of extreme traces, at a size and at four times the size.

Linear is a ratio of 4, 2 for each doubling; what passes 2.3 for each has a path that grows faster than the file. Nothing here is
asserted: times are a machine's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.crowds import CROWDS
from tests.fuzz.extremes import EXTREMES, document

_TIMES = 4
_SUSPECT = 2.3**2  # ratio of processor times, start of the interpreter left out
_LEAST_S = 0.3  # shorter times say nothing about growth
_MEGA = 1e6
KINDS = EXTREMES | CROWDS


def main() -> int:
    """Print a line for each kind; 1 if any grows too fast."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.growth", description=__doc__)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--size", type=int, default=4_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        return _measure(given.measure)
    suspects = 0
    for kind in given.kinds or KINDS:
        small, large = (_report(kind, given.size * times) for times in (1, _TIMES))
        ratio = large[1] / max(small[1], _LEAST_S)
        suspects += ratio > _SUSPECT
        sizes = f"{small[0]:6.1f} -> {large[0]:6.1f} MB"
        spent = f"{small[1]:6.2f} -> {large[1]:6.2f} s ({ratio:4.1f}x, {large[1] / large[0]:.2f} s/MB)"
        print(f"{kind:24} {sizes}  {spent}  {small[2]:5.0f} -> {large[2]:5.0f} MB  {large[3]}", flush=True)
    return int(suspects > 0)


def _report(kind: str, count: int) -> tuple[float, float, float, str]:
    """Plain MB of a file, seconds and MB of its report, and how that ended."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document(KINDS[kind](count)), file)
        file.flush()
        command = [sys.executable, "-m", "tests.fuzz.growth", "--measure", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, memory, end = done.stdout.split(maxsplit=2)
        return Path(file.name).stat().st_size / _MEGA, float(seconds), float(memory), end.strip()


def _measure(path: Path) -> int:
    from tests.fuzz.command import run

    begun = time.process_time()
    done = run("report", str(path), "--format", "json")
    took = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{took:.3f} {peak:.0f} {done.fault.splitlines()[-1] if done.fault else done.err[:100].strip() or 'reported'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
