"""`python -m tests.fuzz --minutes N`: new inputs until then; each kind of fault once, with its file.

Everything runs in this process: a mutant costs what its report costs. `--pause FILE` waits while that file exists.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz.crafted import inputs
from tests.fuzz.judge import difference, faults, faults_of_others, peak_mb, plain_size, reading_faults, told
from tests.fuzz.mutants import mutant
from tests.fuzz.retold import RETELLINGS, shuffled, written
from tests.fuzz.seeds import drawn, seeds
from tests.fuzz.stored import report_faults, report_text, settings_faults, settings_text

_ROUND = 20  # documents drawn at a time
_NUMBER = re.compile(r"[-\d]+(\.\d+)?(e[-+]?\d+)?")
_KIND = 250  # characters at the end of a fault that tell its kind
_OFTEN = 10  # so many mutants are only reported for each that goes through every verb, in every output
_SMALL = 20_000  # bytes: a larger crafted file goes through one verb only
_SECONDS_PER_MINUTE = 60
_TOLD_EVERY_S = 300

Case = tuple[str, bytes, Iterator[str]]  # kind, the file to keep, what is wrong with it


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
    end = time.monotonic() + given.minutes * _SECONDS_PER_MINUTE
    counts: Counter[str] = Counter()
    kinds: set[str] = set()
    said = time.monotonic()
    for kind, data, wrong in _cases(given.seed, given.read, given.keep, lambda: time.monotonic() < end):
        counts[kind] += 1
        for fault in wrong:
            like = _NUMBER.sub("N", fault[-_KIND:])
            if like not in kinds:
                kinds.add(like)
                kept = given.keep / f"fault{len(kinds)}.input"
                kept.write_bytes(data)
                print(f"{kept} ({kind}): {fault}", flush=True)
        if time.monotonic() - said > _TOLD_EVERY_S:
            said = time.monotonic()
            print(_sum(counts, kinds), flush=True)
        while given.pause is not None and given.pause.exists():
            time.sleep(1)
    print(_sum(counts, kinds))
    return int(bool(kinds))


def _sum(counts: Counter[str], kinds: set[str]) -> str:
    each = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))
    return f"{counts.total():,} inputs ({each}), {len(kinds)} kinds of fault, most memory {peak_mb():.0f} MB"


def _cases(start: int, read: int, folder: Path, goes_on: Callable[[], bool]) -> Iterator[Case]:
    """Crafted inputs once, then drawn ones, mutants, saved reports and settings in turn."""
    rng = random.Random(start)
    sound = seeds()
    path, other = folder / "input.json", folder / "sound.json"
    other.write_bytes(sound[-1])

    def reported(kind: str, data: bytes, *, thorough: bool = False) -> Case:
        path.write_bytes(data)
        return kind, data, faults(path, plain_size(data) / 1e6, thorough=thorough)

    def compared(kind: str, data: bytes) -> Case:
        path.write_bytes(data)
        return kind, data, faults_of_others(path, other)

    yield from (reported("crafted", data, thorough=True) for _, data in inputs())
    yield from (compared("crafted, every verb", data) for _, data in inputs() if len(data) < _SMALL)
    round_ = 0
    while goes_on():
        round_ += 1
        possible = drawn(start + round_, _ROUND, strange=False)
        for document, can_be in zip(drawn(start + round_, _ROUND), possible, strict=False):
            data = written(document)
            yield reported("drawn", data)
            yield "shuffled", data, _told_otherwise(data, written(shuffled(document, rng)), path)
            retell = rng.choice([*RETELLINGS.values()])
            yield "told otherwise", written(can_be), _told_otherwise(written(can_be), retell(can_be, rng), path)
            for _ in range(_OFTEN):
                yield reported("mutated", mutant(rng.choice([data, *sound]), rng))
            yield reported("mutated, every output", mutant(rng.choice([data, *sound]), rng), thorough=True)
            yield compared("mutated, every verb", mutant(rng.choice([data, *sound]), rng))
            for _ in range(read):
                text = mutant(rng.choice([data, *sound]), rng)
                yield "mutated, only read", text, reading_faults(text)
            text, suffix = report_text(rng)
            stored = folder / f"stored{suffix}"
            stored.write_bytes(text)
            yield "saved report", text, report_faults(stored)
            text = settings_text(rng)
            yield "settings", text, settings_faults(text, folder / "project")
            if not goes_on():
                return


def _told_otherwise(data: bytes, again: bytes, path: Path) -> Iterator[str]:
    if found := difference(told(data, path), told(again, path)):
        yield f"another report: {found}"


if __name__ == "__main__":
    sys.exit(main())
