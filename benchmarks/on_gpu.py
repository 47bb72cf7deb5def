"""The first minutes on a GPU: what only hardware can show, in order of value.

    python benchmarks/on_gpu.py --minutes 10 --out DIR
    python benchmarks/on_gpu.py --out DIR --rehearse            the same path on a CPU, with tiny sizes
    python benchmarks/on_gpu.py --out DIR --only peaks          a second try of some parts

Each part is a process of its own that fails alone and takes no more than its share of the minutes that are left. Every fact is
a line of DIR/results.jsonl as soon as it is known; DIR/SUMMARY.md is written again after each part.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# In order of value, with the share of the whole time that each may take.
PARTS = {"sampler": 0.15, "nanogpt": 0.35, "clinic": 0.9, "peaks": 1.0}
REHEARSAL_MINUTES = 3.0
RESULTS, SUMMARY = "results.jsonl", "SUMMARY.md"


def write(out: Path, part: str, fact: dict[str, Any]) -> None:
    """Add a line; it is on disk before the next fact is looked for."""
    with (out / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"part": part, **fact}, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())


def facts(out: Path) -> list[dict[str, Any]]:
    """Every line so far."""
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def work(part: str, out: Path, *, rehearse: bool) -> None:
    """One part, in this process."""
    module = importlib.import_module(f"on_gpu_parts.{part}")
    for fact in module.found(rehearse):
        write(out, part, fact)


def supervised(part: str, out: Path, seconds: float, *, rehearse: bool) -> bool:
    """One part in a process of its own, ended with all its children when its time is over; whether it ended well."""
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(out), "--inside", part]
    command += ["--rehearse"] * rehearse
    # Tiny products gain nothing from threads, and lose much to them where other programs hold the cores.
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if rehearse else {})
    begin = time.monotonic()
    errors = out / f"{part}.log"
    with errors.open("w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        try:
            code = child.wait(seconds)
            end = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            code, end = -1, f"stopped after {seconds:.0f} s"
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    write(
        out, part, {"fact": "end", "end": end, "seconds": time.monotonic() - begin, "last_words": last if code else []}
    )
    return code == 0


def summary(found: list[dict[str, Any]], title: str) -> str:
    """A page of everything, part by part."""
    lines = [f"# {title}", "", f"Written on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {machine()}.", ""]
    for part in dict.fromkeys(fact["part"] for fact in found):
        lines += [f"## {part}", ""]
        lines += [f"- **{fact['fact']}**: {told(fact)}" for fact in found if fact["part"] == part]
        lines.append("")
    return "\n".join(lines)


def told(fact: dict[str, Any]) -> str:
    """What a line knows, in one line; what is unknown is left out of the page and stands in the file."""
    known = {
        name: value for name, value in fact.items() if name not in ("part", "fact") and value not in (None, [], {})
    }
    return ", ".join(f"{name} {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in known.items())


def machine() -> str:
    """The machine and its versions; without torch here, which would hold memory of the GPU while others are measured."""
    from importlib.metadata import version

    return f"{platform.node()}, Python {platform.python_version()}, torch {version('torch')}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, help=f"for everything (default 10; {REHEARSAL_MINUTES:g} in a rehearsal)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny sizes")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--inside", choices=tuple(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.inside:
        work(given.inside, given.out, rehearse=given.rehearse)
        return
    minutes = given.minutes or (REHEARSAL_MINUTES if given.rehearse else 10.0)
    end = time.monotonic() + 60.0 * minutes
    title = "Rehearsal on a CPU" if given.rehearse else "On a GPU"
    good = True
    for part in (part for part in PARTS if part in given.only):
        share = 1.0 if len(given.only) == 1 else PARTS[part]
        good &= supervised(part, given.out, max(share * (end - time.monotonic()), 1.0), rehearse=given.rehearse)
        (given.out / SUMMARY).write_text(summary(facts(given.out), title), encoding="utf-8")
    print((given.out / SUMMARY).read_text(encoding="utf-8"))
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
