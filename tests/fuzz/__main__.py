"""`python -m tests.fuzz --minutes N [--seed S] [--keep FOLDER]`: new inputs until then; each fault once, with its file."""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.crafted import inputs
from tests.fuzz.judge import faults, peak_mb, plain_size
from tests.fuzz.seeds import seeds
from tests.fuzz.strategies import mutated, traces, written

_ROUND = 40  # inputs drawn before the clock is looked at
_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")
_KIND = 250  # characters at the end of a fault that tell its kind
_SECONDS_PER_MINUTE = 60


def main() -> int:
    """Run, print each kind of fault, and say how many inputs there were; 1 if there was any fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "mfu-doctor-fuzz")
    given_ = parser.parse_args()
    given_.keep.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given_.minutes * _SECONDS_PER_MINUTE
    counts: Counter[str] = Counter()
    kinds: set[str] = set()
    for kind, data in _inputs(given_.seed, lambda: time.monotonic() < end):
        counts[kind] += 1
        path = given_.keep / "input.json"
        path.write_bytes(data)
        for fault in faults(path, plain_size(data) / 1e6):
            told = _NUMBER.sub("N", fault[-_KIND:])
            if told not in kinds:
                kinds.add(told)
                kept = given_.keep / f"fault{len(kinds)}.json"
                kept.write_bytes(data)
                print(f"{kept} ({kind}): {fault}", flush=True)
    print(f"{counts.total():,} inputs ({dict(counts)}), {len(kinds)} kinds of fault, most memory {peak_mb():.0f} MB")
    return int(bool(kinds))


def _inputs(start: int, goes_on: Callable[[], bool]) -> Iterator[tuple[str, bytes]]:
    """Crafted inputs once, then drawn ones and mutants in turn."""
    yield from (("crafted", data) for _, data in inputs())
    rng = random.Random(start)
    known = seeds()
    round_ = 0
    while goes_on():
        round_ += 1
        for data in drawn(start + round_, _ROUND):
            yield "drawn", data
            yield "drawn, mutated", mutated(data, rng)
            yield "mutated", mutated(rng.choice(known), rng)


def drawn(number: int, count: int) -> list[bytes]:
    """So many files of the strategy, the same ones for the same number."""
    found: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(traces())
    def draw(document: dict[str, object]) -> None:
        found.append(written(document))

    draw()
    return found


if __name__ == "__main__":
    sys.exit(main())
