"""`python -m tests.fuzz --minutes N`: new inputs until then; each kind of fault once, with its file.

The command line runs in this process, and what it leaves of it is looked at: a mutant costs what its report costs. A sample is
reported by a process of its own too. `--pause FILE` waits while that file exists.
"""

from __future__ import annotations

import argparse
import faulthandler
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.cases import ONLY_READ, Cases
from tests.fuzz.judge import peak_mb

_NUMBER = re.compile(r"[-\d]+(\.\d+)?(e[-+]?\d+)?")
_KIND = 250  # characters at the end of a fault that tell its kind
_SECONDS_PER_MINUTE = 60
_TOLD_EVERY_S = 300


def main() -> int:
    """Run, print each kind of fault, and say how many inputs there were; 1 if there was any fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "mfu-doctor-fuzz")
    parser.add_argument("--pause", type=Path)
    parser.add_argument("--read", type=int, default=40, help="mutants that are only read, for each document drawn")
    parser.add_argument("--guided", action="store_true", help="the reader alone, guided by coverage (needs Atheris)")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    if given.guided:
        options = ("--minutes", str(given.minutes), "--keep", str(given.keep))
        return subprocess.run([sys.executable, "-m", "tests.fuzz.guided", *options], check=False).returncode
    faulthandler.enable()
    return _run(Cases(given.seed, given.read, given.keep), given.keep, given.minutes, given.pause)


def _run(cases: Cases, keep: Path, minutes: float, pause: Path | None) -> int:
    end = time.monotonic() + minutes * _SECONDS_PER_MINUTE
    counts: Counter[str] = Counter()
    kinds: set[str] = set()
    said = time.monotonic()
    for kind, data, wrong in cases.all(lambda: time.monotonic() < end):
        counts[kind] += 1
        for fault in _found(wrong):
            like = _NUMBER.sub("N", fault[-_KIND:])
            if like not in kinds:
                kinds.add(like)
                kept = keep / f"fault{len(kinds)}.input"
                kept.write_bytes(data)
                print(f"{kept} ({kind}): {fault}", flush=True)
        if time.monotonic() - said > _TOLD_EVERY_S:
            said = time.monotonic()
            print(_sum(counts, kinds), flush=True)
        while pause is not None and pause.exists():
            time.sleep(1)
    print(_sum(counts, kinds))
    return int(bool(kinds))


def _found(wrong: Iterator[str]) -> Iterator[str]:
    """What is wrong; that the judge itself cannot go on is one more fault."""
    try:
        yield from wrong
    except Exception:  # noqa: BLE001 - an input that no judge foresaw
        yield f"the judge ended: {traceback.format_exc()[-2_000:]}"


def _sum(counts: Counter[str], kinds: set[str]) -> str:
    each = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))
    run = counts.total() - counts[ONLY_READ]
    return (
        f"{counts.total():,} inputs, {run:,} of them through the command line ({each}), {len(kinds)} kinds of fault, "
        f"most memory {peak_mb():.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
