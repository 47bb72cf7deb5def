"""The first minutes on a GPU: what only hardware can show, in order of value.

    python benchmarks/on_gpu.py --minutes 9 --out DIR           one command; 10 minutes is what many machines allow one
    python benchmarks/on_gpu.py --out DIR --rehearse            the same path on a CPU, with tiny sizes
    python benchmarks/on_gpu.py --out DIR --only clinic --patients fp64 odd-vocabulary      a second try of some of it

Each part is a process of its own that fails alone and takes no more than its share of the minutes that are left. Every fact is
a line of DIR/results.jsonl as soon as it is known; SUMMARY.md and BOARD.md are written again after each part. Traces are kept
in DIR/traces.zip, and cut to DIR/fixtures.zip: six files in all, which can be fetched from a machine that gives back few.

It needs torch and mfu-doctor's own dependencies, not mfu-doctor itself, git or a network, and writes to DIR and the temporary
folder alone. It reads settings of the GPU and changes none.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from on_gpu_parts.board import board, page
from on_gpu_parts.job import LOG, ROOT, Job, bounded

# In order of value, with the share of the time left that each may take.
PARTS = {"sampler": 0.2, "nanogpt": 0.45, "clinic": 0.85, "peaks": 0.7, "fixtures": 1.0}
MINUTES, REHEARSAL_MINUTES = 10.0, 12.0  # the rehearsal's bound is for a machine that others use too
SPARE_S = 3.0  # that a part has to end what it started
NEEDED = ("torch", "numpy", "msgspec", "jinja2", "rich", "typer", "pynvml")


def main() -> None:
    """Command line."""
    given = arguments().parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    minutes = given.minutes or (REHEARSAL_MINUTES if given.rehearse else MINUTES)
    end = given.end or time.monotonic() + 60.0 * minutes
    job = Job(given.out.resolve(), given.rehearse, end, tuple(given.patients) if given.patients else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whatever was started ends with us
    if given.inside:
        for fact in importlib.import_module(f"on_gpu_parts.{given.inside}").found(job):
            job.write(given.inside, fact)
        return
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise SystemExit(f"not installed, and needed: {', '.join(missing)} (python is {sys.executable})")
    good = True
    for part in (part for part in PARTS if part in given.only):
        good &= supervised(part, job, share=1.0 if len(given.only) == 1 else PARTS[part])
        write_pages(job)
    print((job.out / "SUMMARY.md").read_text(encoding="utf-8"))
    print((job.out / "BOARD.md").read_text(encoding="utf-8"))
    raise SystemExit(0 if good else 1)


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, help=f"for everything (default {MINUTES:g}; {REHEARSAL_MINUTES:g} in a rehearsal)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny sizes")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--patients", nargs="+", metavar="NAME", help="of the clinic")
    parser.add_argument("--inside", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    return parser


def supervised(part: str, job: Job, *, share: float) -> bool:
    """One part in a process of its own, ended with all its children when its time is over; whether it ended well."""
    begin = time.monotonic()
    seconds = max(share * job.left_s, 1.0)
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(job.out), "--inside", part]
    command += ["--end", str(begin + max(seconds - SPARE_S, 1.0)), *["--rehearse"] * job.rehearse]
    command += ["--patients", *job.patients] if job.patients else []
    with tempfile.TemporaryDirectory() as folder:
        ended = bounded(command, seconds, Path(folder), **environment(Path(folder), rehearse=job.rehearse))
    with (job.out / LOG).open("a", encoding="utf-8") as log:
        log.write(f"==== {part}\n{ended.out}{ended.err}\n")
    took = time.monotonic() - begin
    job.write(part, {"fact": "end", "end": ended.failure or "done", "seconds": took, "of": seconds})
    return ended.failure is None


def environment(scratch: Path, *, rehearse: bool) -> dict[str, str]:
    """Where the parts find us, and leave their caches: the home of the machine may be read-only."""
    places = (ROOT, Path(__file__).resolve().parent, ROOT / "examples" / "clinic", os.environ.get("PYTHONPATH", ""))
    here = os.pathsep.join(map(str, places)).rstrip(os.pathsep)
    caches = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    found = {"PYTHONPATH": here, **{name: str(scratch / name.lower()) for name in caches}}
    # Tiny products gain nothing from threads, and lose much to them where other programs hold the cores.
    return found | ({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} if rehearse else {})


def write_pages(job: Job) -> None:
    """What is known so far, for people."""
    facts, title = job.facts(), "rehearsal on a CPU" if job.rehearse else "on a GPU"
    (job.out / "SUMMARY.md").write_text(page(facts, f"First minutes: {title}"), encoding="utf-8")
    (job.out / "BOARD.md").write_text(board(facts, title), encoding="utf-8")


if __name__ == "__main__":
    main()
