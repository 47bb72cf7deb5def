"""Times and peak memory of diagnosing jobs of 8 to 1,024 ranks, drawn from real ones, ours and others', in one run.

    python benchmarks/jobs.py --ranks 8,64,256,1024 --peers-python /path/to/venv/bin/python

Reading and joining are measured apart: reading in processes of this machine, then the join alone in a process of its own, from
the summaries as they would come from the workers. The others read the first job; one that is not installed fails at once. Compare
within one run only, and by processor time where the machine is shared.

To measure the others: python -m venv peers && peers/bin/pip install HolisticTraceAnalysis git+https://github.com/AMD-AGI/TraceLens
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from make_job import REAL, draw
from reading import MB, Measured, measure

READ = """
import json, pickle, sys, time
from pathlib import Path
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.ranks import find_ranks
from mfu_doctor.job.diagnose import read_ranks
folder = sys.argv[1]
summaries, out = read_ranks(find_ranks([folder]), Overrides(), None, None, None)
data = pickle.dumps(summaries)
Path(folder + ".summaries").write_bytes(data)
Path(folder + ".read").write_text(json.dumps({"ranks": len(summaries), "left_out": len(out), "bytes": len(data)}))
"""
JOIN = """
import json, pickle, resource, sys, time
from pathlib import Path
from mfu_doctor.job.join.join import join
folder = sys.argv[1]
summaries = pickle.loads(Path(folder + ".summaries").read_bytes())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, cpu = time.perf_counter(), time.process_time()
report = join(summaries, source=folder)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
late = [rank for blame in report.blames[:1] for rank in blame.ranks]
told = {"wall": wall, "cpu": cpu, "mib": after / 1024, "more_mib": (after - before) / 1024, "late": late}
Path(folder + ".join").write_text(json.dumps(told))
"""
WHOLE = "from mfu_doctor.cli.main import main; import sys; sys.argv[1:1] = ['report']; main()"
ONE = (
    "import sys; from mfu_doctor.cli.main import main\n"
    "sys.argv[1] += '/rank0.pt.trace.json'; sys.argv[1:1] = ['report']; main()"
)
PEERS = {
    "HolisticTraceAnalysis": (
        "import sys, glob; from hta.trace_analysis import TraceAnalysis\n"
        "files = {i: f'{sys.argv[1]}/rank{i}.pt.trace.json' for i in range(8)}\n"
        "t = TraceAnalysis(trace_files=files); t.get_temporal_breakdown(visualize=False); "
        "t.get_comm_comp_overlap(visualize=False); t.get_potential_stragglers()"
    ),
    "TraceLens": (
        "import sys, tempfile\n"
        "from TraceLens.Reporting.generate_multi_rank_collective_report_pytorch import "
        "generate_collective_report as make\n"
        "make(trace_dir=sys.argv[1], world_size=8, output_xlsx_path=tempfile.mktemp(suffix='.xlsx'))"
    ),
}


@dataclass(frozen=True)
class Job:
    """A drawn job: its folder and the plain bytes of all of its traces."""

    folder: Path
    size: int


def rows_of(job: Job, runs: int) -> list[str]:
    """What reading and joining took, as lines."""
    read = middle([measure(sys.executable, READ, job.folder) for _ in range(runs)])
    measure(sys.executable, JOIN, job.folder)
    told = json.loads(Path(f"{job.folder}.read").read_text())
    joined = json.loads(Path(f"{job.folder}.join").read_text())
    mb = job.size / MB
    each = told["bytes"] / max(told["ranks"], 1)
    rate = f"{read.cpu_s / mb:.3f} CPU s per MB, summaries of {each / 1e3:.0f} kB"
    own = f"{joined['wall']:>8.2f} s wall {joined['cpu']:>8.2f} s CPU {joined['mib']:>7.0f} MiB"
    return [
        f"  read    {line(read)}   {rate}",
        f"  join    {own}   {joined['more_mib']:.0f} MiB more than the summaries; late: {joined['late']}",
    ]


def line(measured: Measured) -> str:
    """One contender's figures."""
    if measured.failed:
        return f"failed with status {measured.failed}"
    return f"{measured.seconds:>8.2f} s wall {measured.cpu_s:>8.2f} s CPU {measured.peak_mib:>7.0f} MiB"


def middle(done: list[Measured]) -> Measured:
    """The median of each figure; a failure if one failed."""
    return Measured(
        statistics.median(m.seconds for m in done),
        statistics.median(m.cpu_s for m in done),
        statistics.median(m.peak_mib for m in done),
        max(m.failed for m in done),
    )


def beside(job: Job, python: str | None, runs: int) -> list[str]:
    """The whole diagnosis, one rank alone, and the others."""
    contenders = {"mfu-doctor report DIR": (sys.executable, WHOLE), "one rank alone": (sys.executable, ONE)}
    contenders |= {name: (python, code) for name, code in PEERS.items() if python is not None}
    taken = {name: middle([measure(*how, job.folder) for _ in range(runs)]) for name, how in contenders.items()}
    return [f"  {name:<24}{line(measured)}" for name, measured in taken.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="8,64,256,1024")
    parser.add_argument("--copies", type=int, default=1, help="how often the steps of each rank are repeated")
    parser.add_argument("--source", type=Path, default=REAL, help="folder of real ranks")
    parser.add_argument("--peers-python", help="interpreter with the other tools; without it they are left out")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    sizes = [int(text) for text in options.ranks.split(",")]
    with tempfile.TemporaryDirectory() as place:
        for index, ranks in enumerate(sizes):
            folder = Path(place) / str(ranks)
            job = Job(folder, draw(ranks, folder, options.source, copies=options.copies))
            print(f"{ranks} ranks, {job.size / MB:,.0f} MB, straggler {ranks // 2}")
            rows = rows_of(job, options.runs)
            rows += beside(job, options.peers_python, options.runs) if index == 0 else []
            print("\n".join(rows), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
