"""Try the fix of every patient of the clinic as `mfu-doctor try` tries a fix, and write the scoreboard.

    python examples/clinic/run.py                          all patients, SCOREBOARD.md beside this file
    python examples/clinic/run.py --only slow-loader gc-pause --minutes 2
    python examples/clinic/run.py --keep DIR               keep every trace and what was measured; then, after a change to a rule,
    python examples/clinic/run.py --again DIR              judge the same traces again: no noise between the old code and the new
    python examples/clinic/run.py --record tests/fixtures/clinic     one small trace of each fault, for regression tests

The program with its fault is recorded, and what the doctor says is the prediction. Then both programs run without a profiler, in
fresh processes and in turns, until the difference is settled or the minutes are over. Steps, intervals and verdicts are those of
`mfu_doctor.trial`; only the fix is another program here, and not a remedy that is applied from outside.

Controls are the same program on both sides, so no difference may be claimed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from boards import KEEP_HEAP, machine, spread_of
from msgspec.structs import replace

import mfu_doctor
from mfu_doctor.errors import DoctorError
from mfu_doctor.quantities import counted
from mfu_doctor.result.trial import BETTER, WORSE, Trial, Tried
from mfu_doctor.result.trial_entry import Entry
from mfu_doctor.trial.bench import Bench, Budget, Failure
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.findings import tried
from mfu_doctor.trial.orders import Measured
from mfu_doctor.trial.record import entries_of
from mfu_doctor.trial.remedies.remedy import Chosen, Numerics, Remedy
from mfu_doctor.trial.trying import known_from, plan_runs
from mfu_doctor.trial.turns import Arm, Turns

HERE = Path(__file__).resolve().parent
RECORDED_STEPS = 2  # in a trace that is kept in the repository
TARGETS = "targets: planted fault first >= 95 %, median |error| <= 5 %, 90th percentile <= 15 %, no finding on controls"
THE_FIX = "the fix"


@dataclass(frozen=True)
class Sides:
    """The program with its fault and the one with its fix, in the places of a program without and with a remedy."""

    fault: Bench
    fix: Bench

    def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
        """Run one of them."""
        result = self.fix.measure() if names else self.fault.measure()
        return replace(result, effects=names) if isinstance(result, Measured) else result

    def left(self) -> int:
        """How many more runs there is time for."""
        return self.fault.left()


@dataclass(frozen=True)
class Case:
    """One patient: what the doctor said, and what was measured.

    Attributes:
        expects: the planted rule; None of a control.
        found: the rules found, the first one first.
        trial: the fix, predicted beside measured.
        entry: the same as a line of the record; None where the fault was not found, or nothing was measured.
    """

    expects: str | None
    found: tuple[str, ...]
    trial: Trial
    entry: Entry | None

    @property
    def fix(self) -> Tried:
        """What was tried."""
        return self.trial.tried[0]

    @property
    def first(self) -> bool:
        """Whether the planted fault was ranked first."""
        return self.found[:1] == (self.expects,)


def patients() -> dict[str, Path]:
    """Name and file of every patient."""
    return {path.stem.replace("_", "-"): path for path in sorted((HERE / "patients").glob("*.py"))}


def told_by(path: Path, *words: str) -> dict[str, Any]:
    """What a patient prints as JSON."""
    done = subprocess.run([sys.executable, str(path), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path.name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def treat(name: str, expects: str | None, minutes: float, keep: Path) -> Case:
    """Record a patient, try its fix, and leave both in the folder."""
    path, budget = str(patients()[name]), Budget(60 * minutes)
    fault = Bench(Program((path, "--fault")), budget)
    with fault.recorded() as trace:
        report = known_from(trace, fault).report
        shutil.copy(trace, keep / f"{name}.trace.gz")
    skipped = plan_runs(fault, report)
    fix = Bench(Program((path, "--fix")), budget, source=fault.source, steps=fault.steps)
    turns = Turns(Sides(fault, fix), skipped, lambda *_: None)
    arm = Arm((the_fix(expects),))
    turns.settle([arm])
    trial = Trial(
        program=name,
        budget_s=budget.seconds,
        spent_s=budget.spent_s,
        unchanged_s=turns.step_s,
        noise=turns.noise,
        tried=(tried(turns, arm, report),),
    )
    (keep / f"{name}.json").write_bytes(msgspec.json.encode(trial))
    return judged(name, expects, keep)


def the_fix(expects: str | None) -> Chosen:
    """The fix as a remedy: the program applies it itself."""
    return Chosen(
        Remedy(
            name=THE_FIX,
            answers=(expects,) if expects else (),
            words="the program with its fix",
            line="",
            numerics=Numerics.CHANGES,
            why_not=lambda _: None,
            apply=lambda _: None,
        )
    )


def judged(name: str, expects: str | None, kept: Path) -> Case:
    """A patient that was kept, its trace judged by the present code."""
    report = mfu_doctor.diagnose(kept / f"{name}.trace.gz")
    trial = msgspec.json.decode((kept / f"{name}.json").read_bytes(), type=Trial)
    saving = next((d.saving for d in report.failed if d.rule == expects), None)
    (fix,) = trial.tried
    if saving is not None:
        fix = replace(
            fix, rule=expects, predicted_low_s=saving.low, predicted_s=saving.mid, predicted_high_s=saving.high
        )
    trial = replace(trial, tried=(fix,))
    entries = entries_of(replace(report, trial=trial)) if saving is not None else []
    return Case(expects, tuple(d.rule for d in report.failed), trial, entries[0] if entries else None)


def row(name: str, case: Case) -> str:
    """One line of the table."""
    fix, step_s, saved = case.fix, case.trial.unchanged_s or 0.0, case.fix.saving_s
    after, noise = "not measured", ""
    if saved is not None and fix.saving_low_s is not None and fix.saving_high_s is not None:
        ends = (step_s - fix.saving_high_s, step_s - fix.saving_low_s)
        after = f"{ms(step_s - saved)} ({ms(ends[0])} to {ms(ends[1])})"
        noise = ms(fix.noise_s) if fix.noise_s is not None else ""
    cells = [name, case.expects or "healthy control"]
    if case.expects is None:
        cells += [f"found: {', '.join(case.found)}" if case.found else "no finding", ms(step_s), "", after, noise, ""]
    else:
        predicted = ms(step_s - case.entry.predicted_s) if case.entry is not None else "not found"
        error = f"{case.entry.error:+.1%}" if case.entry is not None else ""
        cells += ["first" if case.first else "not first", ms(step_s), predicted, after, noise, error]
    return "| " + " | ".join([*cells, fix.verdict]) + " |"


def ms(seconds: float) -> str:
    """In milliseconds."""
    return f"{1e3 * seconds:.1f}"


def summary(cases: dict[str, Case]) -> list[str]:
    """The figures that the targets are about; the worst predictions by name."""
    planted = [case for case in cases.values() if case.expects is not None]
    controls = [case for case in cases.values() if case.expects is None]
    errors = {name: case.entry.error for name, case in cases.items() if case.entry is not None}
    met = sum(case.entry.is_met for case in planted if case.entry is not None)
    claimed = sum(case.fix.verdict in (BETTER, WORSE) for case in controls)
    lines = []
    if planted:
        lines.append(f"- planted fault first: {sum(case.first for case in planted)} of {len(planted)}")
    if errors:
        worst = sorted(errors, key=lambda name: -abs(errors[name]))[:3]
        lines.append(f"- |error| of the predicted step: {spread_of(sorted(map(abs, errors.values())))}")
        lines.append(f"- prediction and measurement overlap, each with its range: {met} of {len(errors)}")
        lines.append(f"- worst predictions: {', '.join(f'{name} {errors[name]:+.1%}' for name in worst)}")
    if controls:
        found = sum(len(case.found) for case in controls)
        lines.append(f"- findings on healthy controls: {found} in {counted(len(controls), 'run')}")
        lines.append(f"- a control against itself is said to differ: {claimed} of {len(controls)}")
    return lines


def scoreboard(cases: dict[str, Case], absent: dict[str, str], given: argparse.Namespace) -> str:
    """The markdown that is committed; with `--again` of runs that were kept and have been judged by the present code."""
    only = "" if set(given.only) == set(patients()) else f" --only {' '.join(given.only)}"
    command = f"python examples/clinic/run.py --minutes {given.minutes:g}{only}"
    judged_again = ", its kept traces judged again" if given.again is not None else ""
    head = [
        "# Scoreboard of the clinic",
        "",
        f"Written by `{command}`{judged_again} on {datetime.now(UTC):%Y-%m-%d}: {machine()}.",
        f"Times are milliseconds a step, with the 99 % range and how far noise alone moves it; {TARGETS}.",
        "",
        "| patient | planted fault | ranked | step with fault | predicted | measured with fix | noise | error | verdict |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    rows = [row(name, case) for name, case in cases.items()]
    return "\n".join([*head, *rows, "", *summary(cases), *(f"- not run: {n}: {why}" for n, why in absent.items()), ""])


def record(folder: Path, names: Sequence[str]) -> None:
    """Write one trace of each patient's fault, and of each control."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        trace = folder / f"{name}.pt.trace.json.gz"
        words = ("--fault", "--json", "--trace", str(trace), "--active", str(RECORDED_STEPS))
        result = told_by(patients()[name], *words)
        print(name, result["absent"] if "absent" in result else [f["rule"] for f in result["findings"]])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(patients()), help="names of patients")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each patient at most (3)")
    parser.add_argument(
        "--output", type=Path, help="of the scoreboard (default: SCOREBOARD.md beside this file, for all)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep every trace and what was measured here")
    parser.add_argument("--again", type=Path, metavar="DIR", help="only judge again what was kept here")
    parser.add_argument("--record", type=Path, help="only write one trace per patient into this folder")
    given = parser.parse_args()
    if unknown := set(given.only) - set(patients()):
        parser.error(f"no such patient: {', '.join(sorted(unknown))}")
    os.environ.update(KEEP_HEAP)
    if given.record is not None:
        record(given.record, given.only)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.again or given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        cases, absent = all_of(given, folder)
    if not cases:
        return  # nothing of it can run on this machine: a scoreboard that is there stays
    whole = given.again is None and set(given.only) == set(patients())
    if whole or given.output is not None:
        output = given.output or HERE / "SCOREBOARD.md"
        board = scoreboard(cases, absent, given)
        output.write_text(board, encoding="utf-8")
    print(*summary(cases), sep="\n")


def all_of(given: argparse.Namespace, folder: Path) -> tuple[dict[str, Case], dict[str, str]]:
    """Each patient; those that this machine cannot have, with the reason."""
    cases: dict[str, Case] = {}
    absent: dict[str, str] = {}
    for name in given.only:
        about = told_by(patients()[name], "--about")
        if given.again is not None:
            if (folder / f"{name}.json").exists():
                cases[name] = judged(name, about["expects"], folder)
        elif about["absent"] is not None:
            absent[name] = about["absent"]
            print(f"{name}: not run: {about['absent']}", flush=True)
        else:
            try:
                cases[name] = treat(name, about["expects"], given.minutes, folder)
            except DoctorError as error:  # the others are measured all the same
                absent[name] = error.problem
                print(f"{name}: not measured: {error.problem}", flush=True)
        if name in cases:
            print(row(name, cases[name]), flush=True)
    return cases, absent


if __name__ == "__main__":
    main()
