"""Run every patient of the clinic with its fault and with its fix, and write the scoreboard.

    python examples/clinic/run.py                          all patients, three repeats, SCOREBOARD.md beside this file
    python examples/clinic/run.py --only slow-loader gc-pause --repeats 1
    python examples/clinic/run.py --keep DIR               keep every trace and what was measured; then, after a change to a rule,
    python examples/clinic/run.py --again DIR              judge the same traces again: no noise between the old code and the new
    python examples/clinic/run.py --record tests/fixtures/clinic     one small trace of each fault, for regression tests

Each run is a process of its own. A pair is the fault and the fix right after or before it; all patients have one pair before
any has the next, and every other round begins with the fix: a machine that is slow for a few minutes spoils one pair of some
patients, not every pair of one, and one that gets slower favours neither side. The predicted step is what the doctor said on the
faulty run (step minus the mid saving of the planted fault's rule), the measured one is the median un-profiled step of the fixed
run.

Controls are the same program on both sides. How far their two runs differ is how far the machine differs from itself, so no
prediction can be shown to be better than that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness import judged

import mfu_doctor

HERE = Path(__file__).resolve().parent
RECORDED_STEPS = 2  # in a trace that is kept in the repository
# glibc gives a step's activations back to the system and faults them in again at the next step, except while a profiler's buffers
# lie above them in the heap. On a CPU that is a second fault beside the planted one, and it comes and goes: keep the memory.
KEEP_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**32 - 1)}
TARGETS = "targets: planted fault first >= 95 %, median |error| <= 5 %, 90th percentile <= 15 %, no finding on controls"


@dataclass(frozen=True)
class Pair:
    """One run with the fault and the run with the fix beside it."""

    fault: dict[str, Any]
    fix: dict[str, Any]

    @property
    def saving(self) -> float | None:
        """Predicted saving in seconds a step (mid), None where the planted fault was not found."""
        found = next((f for f in self.fault["findings"] if f["rule"] == self.fault["expects"]), None)
        return None if found is None or found["saving_s"] is None else float(found["saving_s"][1])

    @property
    def first(self) -> bool:
        """Whether the planted fault was ranked first."""
        found = self.fault["findings"]
        return bool(found) and found[0]["rule"] == self.fault["expects"]

    @property
    def error(self) -> float | None:
        """Relative error of the predicted step against the measured one."""
        if self.saving is None:
            return None
        return float((self.fault["step_s"] - self.saving) / self.fix["step_s"] - 1.0)


def patients() -> dict[str, Path]:
    """Name and file of every patient."""
    return {path.stem.replace("_", "-"): path for path in sorted((HERE / "patients").glob("*.py"))}


def measure(path: Path, *, fixed: bool, trace: Path, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run one patient in a process of its own."""
    command = [sys.executable, str(path), "--fix" if fixed else "--fault", "--json", "--trace", str(trace), *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | KEEP_HEAP)
    if done.returncode:
        raise SystemExit(f"{path.name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def treat(name: str, number: int, folder: Path) -> Pair | str:
    """One pair of a patient in a round, its traces and results left in the folder; why there is none on this machine."""
    results = {}
    for fixed in (True, False) if number % 2 else (False, True):
        trace = kept(folder, name, number, fixed=fixed)
        results[fixed] = measure(patients()[name], fixed=fixed, trace=trace)
        if "absent" in results[fixed]:
            return str(results[fixed]["absent"])
        trace.with_suffix(".json").write_text(json.dumps(results[fixed]), encoding="utf-8")
    return Pair(results[False], results[True])


def kept(folder: Path, name: str, number: int, *, fixed: bool) -> Path:
    """Where the trace of one run is; its results lie beside it."""
    return folder / f"{name}-{number}-{'fix' if fixed else 'fault'}.trace.gz"


def judge_again(name: str, folder: Path) -> list[Pair]:
    """Pairs that were kept, their traces judged by the present code."""
    pairs = []
    for number in range(len(list(folder.glob(f"{name}-*-fault.trace.gz")))):
        sides = []
        for fixed in (False, True):
            trace = kept(folder, name, number, fixed=fixed)
            old = json.loads(trace.with_suffix(".json").read_text(encoding="utf-8"))
            sides.append(old | judged(mfu_doctor.diagnose(trace)))
        pairs.append(Pair(*sides))
    return pairs


def row(name: str, pairs: list[Pair]) -> str:
    """One line of the table."""
    expects = pairs[0].fault["expects"]
    before, after = (median(getattr(p, side)["step_s"] for p in pairs) * 1e3 for side in ("fault", "fix"))
    if expects is None:
        found = sorted({f["rule"] for p in pairs for side in (p.fault, p.fix) for f in side["findings"]})
        verdict = f"found: {', '.join(found)}" if found else "no finding"
        return f"| {name} | healthy control | {verdict} | {before:.1f} | | {after:.1f} | |"
    errors = [p.error for p in pairs if p.error is not None]
    ranked = f"first in {sum(p.first for p in pairs)} of {len(pairs)}"
    if not errors:
        return f"| {name} | {expects} | {ranked} | {before:.1f} | not found | {after:.1f} | |"
    predicted = median(p.fault["step_s"] - (p.saving or 0.0) for p in pairs) * 1e3
    return f"| {name} | {expects} | {ranked} | {before:.1f} | {predicted:.1f} | {after:.1f} | {median(errors):+.1%} |"


def summary(results: dict[str, list[Pair]]) -> list[str]:
    """The figures that the targets are about; the worst predictions by name."""
    planted = {n: pairs for n, pairs in results.items() if pairs[0].fault["expects"] is not None}
    runs = [p for pairs in planted.values() for p in pairs]
    errors = {n: median(e) for n, pairs in planted.items() if (e := [p.error for p in pairs if p.error is not None])}
    sizes = sorted(abs(e) for e in errors.values())
    controls = [p for pairs in results.values() for p in pairs if p.fault["expects"] is None]
    false = sum(len(side["findings"]) for p in controls for side in (p.fault, p.fix))
    same = sorted(abs(p.fault["step_s"] / p.fix["step_s"] - 1.0) for p in controls)
    single = sorted(abs(p.error) for p in runs if p.error is not None)
    worst = sorted(errors, key=lambda n: -abs(errors[n]))[:3]
    lines = []
    if runs:
        lines.append(f"- planted fault first: {sum(p.first for p in runs)} of {len(runs)} runs")
    if sizes:
        lines.append(f"- |error| of the predicted step: {spread_of(sizes)} (single pairs: {spread_of(single)})")
        lines.append(f"- worst predictions: {', '.join(f'{n} {errors[n]:+.1%}' for n in worst)}")
    if controls:
        lines.append(f"- findings on healthy controls: {false} in {2 * len(controls)} runs")
        lines.append(f"- the same control run twice differs from itself: {spread_of(same)}")
    return lines


def spread_of(sizes: list[float]) -> str:
    """Of sorted sizes."""
    return f"median {median(sizes):.1%}, 90th percentile {sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)]:.1%}"


def machine() -> str:
    """The machine in a line."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cpu = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if text.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"


def scoreboard(results: dict[str, list[Pair]], absent: dict[str, str], repeats: int, *, again: bool = False) -> str:
    """The markdown that is committed; `again`: of runs that were kept and have been judged by the present code."""
    command = f"python examples/clinic/run.py --repeats {repeats}"
    judged_again = ", its kept traces judged again" if again else ""
    head = [
        "# Scoreboard of the clinic",
        "",
        f"Written by `{command}`{judged_again} on {datetime.now(UTC):%Y-%m-%d}: {machine()}.",
        f"Times are medians in milliseconds a step; {TARGETS}.",
        "",
        "| patient | planted fault | ranked | step with fault | predicted | measured with fix | error |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    rows = [row(name, pairs) for name, pairs in results.items()]
    return "\n".join(
        [*head, *rows, "", *summary(results), *(f"- not run: {n}: {why}" for n, why in absent.items()), ""]
    )


def record(folder: Path, names: list[str]) -> None:
    """Write one trace of each patient's fault, and of each control."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        trace = folder / f"{name}.pt.trace.json.gz"
        result = measure(patients()[name], fixed=False, trace=trace, extra=("--active", str(RECORDED_STEPS)))
        print(name, result["absent"] if "absent" in result else [f["rule"] for f in result["findings"]])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(patients()), help="names of patients")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="of the scoreboard (default: SCOREBOARD.md beside this file)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep every trace and what was measured here")
    parser.add_argument("--again", type=Path, metavar="DIR", help="only judge again what was kept here")
    parser.add_argument("--record", type=Path, help="only write one trace per patient into this folder")
    given = parser.parse_args()
    if unknown := set(given.only) - set(patients()):
        parser.error(f"no such patient: {', '.join(sorted(unknown))}")
    if given.record is not None:
        record(given.record, given.only)
        return
    if given.again is not None:
        results = {name: pairs for name in given.only if (pairs := judge_again(name, given.again))}
        if not results:
            parser.error(f"nothing of these patients was kept in {given.again}")
        if given.output is not None:
            repeats = max(len(pairs) for pairs in results.values())
            given.output.write_text(scoreboard(results, {}, repeats, again=True), encoding="utf-8")
        print(*(row(name, pairs) for name, pairs in results.items()), *summary(results), sep="\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        results, absent = in_rounds(given.only, given.repeats, folder)
    if not results:
        return  # nothing of it can run on this machine: a scoreboard that is there stays
    output = given.output or HERE / "SCOREBOARD.md"
    output.write_text(scoreboard(results, absent, given.repeats), encoding="utf-8")
    print(*summary(results), sep="\n")


def in_rounds(names: list[str], repeats: int, folder: Path) -> tuple[dict[str, list[Pair]], dict[str, str]]:
    """Pairs of each patient, one a round; the patients that this machine cannot have, with the reason."""
    results: dict[str, list[Pair]] = {name: [] for name in names}
    absent: dict[str, str] = {}
    for number in range(repeats):
        for name in names:
            if name in absent:
                continue
            pair = treat(name, number, folder)
            if isinstance(pair, str):
                absent[name] = pair
                del results[name]
                print(f"{name}: not run: {pair}", flush=True)
                continue
            results[name].append(pair)
            print(row(name, [pair]), flush=True)
    return results, absent


if __name__ == "__main__":
    main()
