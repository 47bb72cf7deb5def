"""Times and peak memory of reading and reporting, ours and others', at every size, in one run.

    python benchmarks/reading.py --sizes 7kB,1MB,35MB,100MB,500MB --peers-python /path/to/venv/bin/python

Each contender reads the same file in a process of its own, from the page cache, and is charged for all of that process:
start-up and imports too, and for the processes that it starts, whose memory is added up while they run. They take turns, so that
what else the machine does meets all of them. Contenders that are not installed are left out. Compare within one run only, and by
processor time where the machine is shared: wall time is then mostly waiting. The last table has the ratios that are aimed at.

7kB (compressed), 1MB and 35MB are real traces where those are here (MFU_DOCTOR_TRACES); the others repeat a small one. --gzip
adds each file compressed.

To measure the others: python -m venv peers && peers/bin/pip install torch HolisticTraceAnalysis torch-tb-profiler tensorboard
and, where GitHub can be reached, git+https://github.com/AMD-AGI/TraceLens (`tracelens` on PyPI is another program).
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from make_trace import TRACES, make, parse_size, small_trace

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


REPORT = "from mfu_doctor.cli.main import main; import sys; sys.argv[1:1] = ['report']; main()"
OPENED = "import gzip, sys; file = (gzip.open if sys.argv[1].endswith('.gz') else open)(sys.argv[1], 'rb')\n"
CONTENDERS = (
    Contender(
        "reading only",
        "import sys; from mfu_doctor.reading import read_trace; from mfu_doctor.inputs.load import processors\n"
        "read_trace(sys.argv[1], threads=processors())",
    ),
    Contender("reading, one process", "import sys; from mfu_doctor.reading import read_trace; read_trace(sys.argv[1])"),
    Contender("report", REPORT),
    Contender("report, Python alone", f"import os; os.environ['MFU_DOCTOR_PURE'] = '1'\n{REPORT}"),
    Contender("import numpy, rich, typer", "import numpy, rich, typer"),
    Contender("every byte looked at", f"{OPENED}while block := file.read(1 << 18): block.count(b'\\n')"),
    Contender("json.load", f"import json\n{OPENED}json.load(file)"),
    Contender(
        "HolisticTraceAnalysis",
        "import sys; from hta.trace_analysis import TraceAnalysis\n"
        "t = TraceAnalysis(trace_files={0: sys.argv[1]}); t.get_temporal_breakdown(visualize=False)",
        peer=True,
    ),
    Contender(
        "TraceLens",
        "import sys, tempfile; from TraceLens.Reporting import generate_perf_report_pytorch as report\n"
        "report.generate_perf_report_pytorch(sys.argv[1], output_csvs_dir=tempfile.mkdtemp())",
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
# Real traces for some sizes, compressed as they are kept.
REAL = {
    "7kB": "mi250_minitoy_train.pt.trace.json.gz",
    "1MB": "h100_bert_small_inference.pt.trace.json.gz",
    "35MB": "v100_resnet50_workers0.pt.trace.json.gz",
}
# What is aimed at: a contender over another one, at a size, by processor time.
AIMS = (
    ("report", "import numpy, rich, typer", "7kB", 2.5),
    ("report", "json.load", "35MB", 0.8),
    ("report", "HolisticTraceAnalysis", "35MB", 0.2),
    ("report", "json.load", "500MB", 0.12),
)
OF_FILE = (("report", "500MB", 0.25), ("report", "2GB", 0.25))  # peak memory over the size of the file


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


def show(label: str, size: int, results: dict[str, Measured]) -> None:
    """Print one table; the ratios are to the whole report."""
    ours = results.get("report") or next(iter(results.values()))
    heads = ("wall s", "CPU s", "peak MiB", "of file", "wall x", "CPU x", "memory x")
    print(f"\n{f'{label}, {size / MB:,.2f} MB':<26}" + "".join(f"{head:>10}" for head in heads))
    for name, m in results.items():
        if m.failed:
            print(f"{name:<26} failed with status {m.failed}")
            continue
        figures = (f"{m.seconds:.2f}", f"{m.cpu_s:.2f}", f"{m.peak_mib:.0f}", f"{m.peak_mib * 2**20 / size:.0%}")
        ratios = (m.seconds / ours.seconds, m.cpu_s / ours.cpu_s, m.peak_mib / ours.peak_mib)
        print(f"{name:<26}" + "".join(f"{f:>10}" for f in (*figures, *(f"{r:.2f}" for r in ratios))), flush=True)


def show_aims(seen: dict[str, tuple[int, dict[str, Measured]]]) -> None:
    """Print the ratios that are aimed at, as far as this run has them."""
    print(f"\n{'ratio':<52}{'CPU':>8}{'wall':>8}{'aim':>8}")
    for name, other, label, aim in AIMS:
        results = seen.get(label, (0, {}))[1]
        if name in results and other in results and not results[other].failed:
            one, two = results[name], results[other]
            what = f"{name} over {other}, {label}"
            print(f"{what:<52}{one.cpu_s / two.cpu_s:>8.2f}{one.seconds / two.seconds:>8.2f}{aim:>8}")
    for name, label, aim in OF_FILE:
        size, results = seen.get(label, (0, {}))
        if name in results:
            print(
                f"{f'peak memory of {name} over the file, {label}':<52}{results[name].peak_mib * 2**20 / size:>8.2f}{aim:>16}"
            )


def trace_of(label: str, small: Path, folder: Path) -> Path:
    """The plain trace of a size, made if it is not there."""
    trace = folder / f"{small.name.split('.')[0]}_{label}.json"
    real = TRACES / REAL.get(label, "none")
    if real.exists():
        trace = folder / real.name.removesuffix(".gz")
        if not trace.exists():
            trace.write_bytes(gzip.decompress(real.read_bytes()))
    elif not trace.exists():
        make(small, trace, parse_size(label))
    return trace


def compressed(trace: Path) -> Path:
    """The same trace compressed, made if it is not there."""
    packed = trace.with_name(f"{trace.name}.gz")
    if not packed.exists():
        with trace.open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as out:
            shutil.copyfileobj(plain, out)
    return packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="7kB,1MB,35MB,100MB,500MB,2GB")
    parser.add_argument("--gzip", action="store_true", help="measure each file compressed too")
    parser.add_argument("--trace", type=Path, help="small trace to repeat (default: a real one, else a fixture)")
    parser.add_argument("--peers-python", help="interpreter with the other tools; without it they are left out")
    parser.add_argument("--only", help="contenders whose name contains one of these, with commas between them")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the large traces are kept"
    )
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [""]
    chosen = [
        (options.peers_python if c.peer else sys.executable, c)
        for c in CONTENDERS
        if (options.peers_python or not c.peer) and any(word in c.name for word in wanted)
    ]
    small = small_trace(options.trace)
    seen: dict[str, tuple[int, dict[str, Measured]]] = {}
    for label in options.sizes.split(","):
        trace = trace_of(label, small, options.folder)
        seen[label] = trace.stat().st_size, batch(trace, chosen, options.runs)
        show(label, *seen[label])
        if options.gzip:
            show(f"{label} gzip", trace.stat().st_size, batch(compressed(trace), chosen, options.runs))
    show_aims(seen)


if __name__ == "__main__":
    main()
