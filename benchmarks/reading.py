"""Times and peak memory of reading large traces, ours and others', in one run.

    python benchmarks/reading.py --sizes 100MB,500MB --peers-python /path/to/venv/bin/python

Each contender reads the same file in a process of its own, from the page cache, and is charged for all of that process:
start-up and imports too, and for the processes that it starts, whose memory is added up while they run. Contenders that are
not installed are left out. Compare within one run only, and by processor time where the machine is shared: wall time is then
mostly waiting.

To measure the others: python -m venv peers && peers/bin/pip install torch HolisticTraceAnalysis torch-tb-profiler tensorboard
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from make_trace import make, parse_size, small_trace

ROOT = Path(__file__).resolve().parent.parent
MB = 1e6
LOOK_EVERY_S = 0.01
MIB_PER_KIB = 1 / 1024  # wait4 counts peak memory in KiB on Linux


@dataclass(frozen=True)
class Contender:
    """Code that reads the file named in its first argument; `peer` runs it with --peers-python."""

    name: str
    code: str
    peer: bool = False


CONTENDERS = (
    Contender(
        "mfu-doctor, reading only",
        "import sys; from mfu_doctor.reading import read_trace; from mfu_doctor.inputs.load import processors\n"
        "read_trace(sys.argv[1], processes=processors())",
    ),
    Contender(
        "the same, one process", "import sys; from mfu_doctor.reading import read_trace; read_trace(sys.argv[1])"
    ),
    Contender(
        "mfu-doctor report", "from mfu_doctor.cli.main import main; import sys; sys.argv[1:1] = ['report']; main()"
    ),
    Contender("json.load", "import json, sys; json.load(open(sys.argv[1]))"),
    Contender(
        "HolisticTraceAnalysis",
        "import sys; from hta.trace_analysis import TraceAnalysis\n"
        "t = TraceAnalysis(trace_files={0: sys.argv[1]}); t.get_temporal_breakdown(visualize=False)",
        peer=True,
    ),
    Contender(
        "torch-tb-profiler",
        "import sys, tempfile\n"
        "from torch_tb_profiler.profiler.data import RunProfileData\n"
        "from torch_tb_profiler.profiler.run_generator import RunGenerator\n"
        "data = RunProfileData.parse('worker', None, sys.argv[1], tempfile.mkdtemp()); data.process(); data.analyze()\n"
        "RunGenerator('worker', None, data).generate_run_profile()",
        peer=True,
    ),
)


@dataclass(frozen=True)
class Measured:
    """Wall seconds, processor seconds and peak MiB of one contender; `failed` is its exit status."""

    seconds: float
    cpu_s: float
    peak_mib: float
    failed: int = 0


def measure(python: str, code: str, trace: Path) -> Measured:
    """Run one contender once."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(ROOT)
        os.execv(python, [python, "-c", code, str(trace)])
    together = 0.0
    while not (waited := os.wait4(child, os.WNOHANG))[0]:
        together = max(together, resident_mib(child))
        time.sleep(LOOK_EVERY_S)
    _, status, usage = waited
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return Measured(wall, cpu, max(together, usage.ru_maxrss * MIB_PER_KIB), os.waitstatus_to_exitcode(status))


def resident_mib(process: int) -> float:
    """What a process and its children hold in memory now; what they share is counted for each."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, IndexError):  # it ended
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20 + sum(resident_mib(int(child)) for child in children)


def batch(trace: Path, contenders: list[tuple[str, Contender]], runs: int) -> dict[str, Measured]:
    """Each contender in turn, `runs` times around; medians."""
    trace.read_bytes()  # into the page cache
    seen: dict[str, list[Measured]] = {}
    for _ in range(runs):
        for python, contender in contenders:
            done = seen.setdefault(contender.name, [])
            if not done or not done[-1].failed:
                done.append(measure(python, contender.code, trace))
    return {name: middle(done) for name, done in seen.items()}


def middle(done: list[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(
        statistics.median(m.seconds for m in done),
        statistics.median(m.cpu_s for m in done),
        statistics.median(m.peak_mib for m in done),
        done[-1].failed,
    )


def show(size: int, results: dict[str, Measured]) -> None:
    """Print one table; the ratios are to reading alone."""
    ours = next(iter(results.values()))
    heads = ("wall s", "CPU s", "peak MiB", "of file", "wall x", "CPU x", "memory x")
    print(f"\n{f'{size / MB:,.0f} MB':<26}" + "".join(f"{head:>10}" for head in heads))
    for name, m in results.items():
        if m.failed:
            print(f"{name:<26} failed with status {m.failed}")
            continue
        figures = (f"{m.seconds:.2f}", f"{m.cpu_s:.2f}", f"{m.peak_mib:.0f}", f"{m.peak_mib * 2**20 / size:.0%}")
        ratios = (m.seconds / ours.seconds, m.cpu_s / ours.cpu_s, m.peak_mib / ours.peak_mib)
        print(f"{name:<26}" + "".join(f"{f:>10}" for f in (*figures, *(f"{r:.1f}" for r in ratios))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100MB,500MB,2GB")
    parser.add_argument("--trace", type=Path, help="small trace to repeat (default: a real one, else a fixture)")
    parser.add_argument("--peers-python", help="interpreter with the other tools; without it they are left out")
    parser.add_argument("--only", help="contenders whose name contains this")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the large traces are kept"
    )
    options = parser.parse_args()
    chosen = [
        (options.peers_python if c.peer else sys.executable, c)
        for c in CONTENDERS
        if (options.peers_python or not c.peer) and (not options.only or options.only in c.name)
    ]
    small = small_trace(options.trace)
    for text in options.sizes.split(","):
        trace = options.folder / f"{small.name.split('.')[0]}_{text}.json"
        if not trace.exists():
            make(small, trace, parse_size(text))
        show(trace.stat().st_size, batch(trace, chosen, options.runs))


if __name__ == "__main__":
    main()
