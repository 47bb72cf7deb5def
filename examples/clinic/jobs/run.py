"""Run every job of the clinic with its fault and mended, in turns, and write the board of jobs.

    python examples/clinic/jobs/run.py                             all jobs, three repeats, JOBS.md beside the scoreboard
    python examples/clinic/jobs/run.py --only sharded --repeats 1
    python examples/clinic/jobs/run.py --keep DIR                  keep the traces; then, after a change to the doctor,
    python examples/clinic/jobs/run.py --again DIR                 judge the same traces again

Right is a run whose first blame is of the planted kind, on the planted ranks, for the planted cause. The predicted step is the
job's step less what the finding about its ranks saves (mid); the measured one is the un-profiled step of the mended run
beside it. Two runs of the same job differ as the machine does: no prediction can be shown to be better than that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from boards import KEEP_HEAP, machine, spread_of

import mfu_doctor
from mfu_doctor.result.job import BEFORE, JITTER, NOTHING, PIPELINE, STRAGGLER, UNEVEN_WORK, Blame, JobReport
from mfu_doctor.rules.families import Family, family_of

HERE = Path(__file__).resolve().parent
TARGETS = "targets: rank and cause right in >= 95 % of runs, |error| median <= 5 %, 90th percentile <= 15 %, no blame on controls"
MEDIAN_TARGET = 0.05
HARMLESS = (NOTHING, JITTER, BEFORE)  # kinds of waiting that no rank is blamed for
SCHEDULE = ("--skip", "6", "--timed", "20", "--active", "5")
LONGEST_S = 180


@dataclass(frozen=True)
class Job:
    """A job and what must be said about it.

    Attributes:
        ranks: how many it has.
        kind: kind of the first blame, None for a healthy control.
        late: the ranks that it must name; () if it is about all.
        causes: what takes longer there: an owner of the breakdown, as far as its name goes; () if it is about the work.
        rules: whose saving is the prediction.
        what_if: what the job's replay is asked where no rule has a saving.
        cores: without so many the job cannot have its fault.
    """

    ranks: int = 2
    kind: str | None = STRAGGLER
    late: tuple[int, ...] = (1,)
    causes: tuple[str, ...] = ("compute: matmul",)
    rules: tuple[str, ...] = ("straggler-rank",)
    what_if: str = "rank 1 like the others"
    cores: int = 1


HEALTHY = Job(kind=None, late=(), causes=(), rules=())
JOBS = {
    "healthy": HEALTHY,
    "healthy-four": Job(ranks=4, kind=None, late=(), causes=(), rules=()),
    "python-one-rank": Job(causes=("python",)),
    "loader-one-rank": Job(causes=("data_loading",)),
    "forward-one-rank": Job(),
    "backward-one-rank": Job(),
    "threads-one-rank": Job(cores=4),
    "uneven-lengths": Job(kind=UNEVEN_WORK, late=(), causes=("compute",), rules=("uneven-work",), what_if="no skew"),
    "uneven-pipeline": Job(kind=PIPELINE, late=(), rules=("stage-imbalance",), what_if="every stage like the mean"),
    "sharded": Job(causes=("python",)),
    "two-by-two": Job(ranks=4),
}


@dataclass(frozen=True)
class Judged:
    """A job with its fault and the same mended."""

    job: Job
    fault: JobReport
    fix: JobReport

    @property
    def blame(self) -> Blame | None:
        """The first one."""
        return next(iter(self.fault.blames), None)

    @property
    def right(self) -> bool:
        """Whether kind, ranks and cause of the first blame are the planted ones; of a control, whether nothing is found."""
        if self.job.kind is None:
            both = (
                self.fault,
                self.fix,
            )  # what a rank finds of itself is no blame: it can be near a limit on one and not on another
            found = any(family_of(one.code) is Family.RANKS for report in both for one in report.findings)
            return not found and not any(blame.kind not in HARMLESS for report in both for blame in report.blames)
        blame = self.blame
        if blame is None or blame.kind != self.job.kind:
            return False
        named = not self.job.late or blame.ranks == self.job.late
        return named and (not self.job.causes or (blame.cause or "").startswith(self.job.causes))

    @property
    def predicted_s(self) -> float | None:
        """The step without the planted fault, None if nothing tells; of a control there is none."""
        found = (f.saving for f in self.fault.findings if f.rule in self.job.rules and f.saving is not None)
        if (saving := next(found, None)) is not None:
            return step_s(self.fault) - saving.mid
        asked = (what.saving_s for what in self.fault.what_ifs if what.name == self.job.what_if)
        return next((step_s(self.fault) - saving_s for saving_s in asked), None)

    @property
    def error(self) -> float | None:
        """Relative error of the predicted step against the measured one."""
        return None if self.predicted_s is None else self.predicted_s / step_s(self.fix) - 1.0


def step_s(report: JobReport) -> float:
    """The job's step without the profiler."""
    assert report.step_time_s is not None
    assert report.step_time_s.stated is not None
    return report.step_time_s.stated


def measure(name: str, folder: Path, *, fixed: bool) -> None:
    """Run a job of the clinic under the doctor; its traces are then in the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(JOBS[name].ranks)]
    command += ["-m", "mfu_doctor", "run", "--quiet", *SCHEDULE, "-o", f"{folder}/"]
    command += [str(HERE / "programs.py"), name, *(["--fix"] if fixed else [])]
    environment = os.environ | KEEP_HEAP | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=LONGEST_S)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")


def pair(name: str, number: int, folder: Path) -> Judged:
    """One run with the fault and one without, every other time the other way round."""
    for fixed in (True, False) if number % 2 else (False, True):
        where = kept(folder, name, number, fixed=fixed)
        where.mkdir(parents=True)
        measure(name, where, fixed=fixed)
    return judge(name, number, folder)


def kept(folder: Path, name: str, number: int, *, fixed: bool) -> Path:
    """Where the traces of one run are."""
    return folder / f"{name}-{number}-{'fix' if fixed else 'fault'}"


def judge(name: str, number: int, folder: Path) -> Judged:
    """Diagnose the traces of a pair."""
    fault, fix = (mfu_doctor.diagnose_job(kept(folder, name, number, fixed=fixed)) for fixed in (False, True))
    return Judged(JOBS[name], fault, fix)


def row(name: str, pairs: list[Judged]) -> str:
    """One line of the table."""
    job = pairs[0].job
    before, after = (
        median(step_s(report) for report in side) * 1e3 for side in zip(*((p.fault, p.fix) for p in pairs), strict=True)
    )
    said = max(
        (p.blame.sentence if p.blame else "nothing" for p in pairs),
        key=[p.blame.sentence if p.blame else "nothing" for p in pairs].count,
    )
    planted = (
        "healthy control" if job.kind is None else ", ".join((job.kind, *(f"rank {r}" for r in job.late), *job.causes))
    )
    score = f"{sum(p.right for p in pairs)} of {len(pairs)}"
    predictions = [p.predicted_s * 1e3 for p in pairs if p.predicted_s is not None]
    errors = [p.error for p in pairs if p.error is not None]
    predicted, error = (f"{median(predictions):.1f}", f"{median(errors):+.1%}") if errors else ("", "")
    return (
        f"| {name} | {job.ranks} | {planted} | {score} | {said} | {before:.1f} | {predicted} | {after:.1f} | {error} |"
    )


def summary(results: dict[str, list[Judged]]) -> list[str]:
    """The figures that the targets are about."""
    planted = [p for pairs in results.values() for p in pairs if p.job.kind is not None]
    controls = [p for pairs in results.values() for p in pairs if p.job.kind is None]
    sizes = sorted(abs(p.error) for p in planted if p.error is not None)
    same = sorted(abs(step_s(p.fault) / step_s(p.fix) - 1.0) for p in controls)
    lines = []
    if planted:
        lines.append(f"- rank and cause right: {sum(p.right for p in planted)} of {len(planted)} runs")
    if sizes:
        lines.append(f"- |error| of the predicted step: {spread_of(sizes)} of {len(sizes)} runs")
        lines.append(f"- |error| beyond what the job differs from itself: {spread_of(beyond(results))}")
    if controls:
        lines.append(f"- controls without a finding about ranks: {sum(p.right for p in controls)} of {len(controls)}")
        lines.append(f"- the same control run twice differs from itself: {spread_of(same)}")
    return lines


def beyond(results: dict[str, list[Judged]]) -> list[float]:
    """The errors; where the mended runs of a job differ by more than the target, less what they differ."""
    left = []
    for pairs in results.values():
        mended = [step_s(pair.fix) for pair in pairs]
        differ = max(mended) / min(mended) - 1.0
        allowed = differ if differ > MEDIAN_TARGET else 0.0
        left += [max(abs(pair.error) - allowed, 0.0) for pair in pairs if pair.error is not None]
    return sorted(left)


def board(results: dict[str, list[Judged]], absent: list[str], command: str, note: str) -> str:
    """The markdown that is committed; `note`: what a reader must know about the machine."""
    cores = len(os.sched_getaffinity(0))
    head = [
        "# Board of jobs",
        "",
        f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.",
        f"Times are medians in milliseconds a step; {TARGETS}.",
        f"Each rank is held on one of {cores} cores. Jobs of more ranks than that share them: there a rank that does more also",
        "slows the rank beside it, and every step waits for turns on the cores, which is in no prediction.",
        *([note] if note else []),
        "",
        "| job | ranks | planted | right | said most often | step with fault | predicted | measured without | error |",
        "|---|---:|---|---|---|---:|---:|---:|---:|",
    ]
    rows = [row(name, pairs) for name, pairs in results.items()]
    return "\n".join(
        [*head, *rows, "", *summary(results), *(f"- not run: {name}: too few cores" for name in absent), ""]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(JOBS), choices=list(JOBS), help="names of jobs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE.parent / "JOBS.md", help="of the board")
    parser.add_argument("--note", default="", help="a sentence about the machine for the board")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep every trace here")
    parser.add_argument("--again", type=Path, metavar="DIR", help="only judge again what was kept here")
    given = parser.parse_args()
    absent = [name for name in given.only if JOBS[name].cores > len(os.sched_getaffinity(0))]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.again or given.keep or Path(scratch)
        results: dict[str, list[Judged]] = {}
        for number in range(given.repeats):
            for name in given.only:
                if name in absent or (given.again and not kept(folder, name, number, fixed=True).exists()):
                    continue
                judged = judge(name, number, folder) if given.again else pair(name, number, folder)
                results.setdefault(name, []).append(judged)
                print(row(name, [judged]), flush=True)
    command = f"python examples/clinic/jobs/run.py --repeats {given.repeats}" + (" --again" if given.again else "")
    given.output.write_text(board(results, absent, command, given.note), encoding="utf-8")
    print(*summary(results), sep="\n")


if __name__ == "__main__":
    main()
