"""`mfu-doctor try`: record the unchanged program, take the fixes of its plan, and measure each against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.load import load_input, open_trace
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.quantities import counted
from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import BETTER, Trial, Tried
from mfu_doctor.session.profile import DEFAULT
from mfu_doctor.trial.bench import Bench, Budget, Failure, Patience
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.findings import left_out_for, rule_of, tried
from mfu_doctor.trial.patch import patch_of
from mfu_doctor.trial.remedies.catalogue import REMEDIES, remedies_for, remedy_named, settled_on
from mfu_doctor.trial.remedies.remedy import Chosen, Circumstances
from mfu_doctor.trial.together import together
from mfu_doctor.trial.turns import Arm, Turns

ALL = "all"
INTERRUPTED = 130  # what a shell reports for a process ended by SIGINT

_MEASURED_S = 3.0  # of steps in one run: as long as a program takes to start, so that neither is wasted
_FEWEST, _MOST = 12, 1000  # steps of that


class Asked(Struct, frozen=True):
    """What the user asked for.

    Attributes:
        program: what is tried.
        minutes: for all runs together.
        fixes: names of remedies; "all" is every one that applies; empty: those of the plan.
        patience: how long a run may make no step.
    """

    program: Program
    minutes: float = 10.0
    fixes: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)


class Choice(Struct, frozen=True):
    """What will be tried, and what will not."""

    arms: tuple[Arm, ...]
    left_out: tuple[Tried, ...] = ()


def try_out(asked: Asked, tell: Callable[[str], None], ran: Callable[[str, float | Failure], None]) -> Report:
    """Record the program and try its fixes.

    Args:
        asked: what to try.
        tell: is told what comes next, a sentence each.
        ran: is told of each run: what ran, and what its step took or why there is none.

    Returns:
        The report of the recording, with the trial.

    Raises:
        DoctorError: the program cannot be recorded or measured; a name is no remedy's.
    """
    named = tuple(remedy_named(name) for name in asked.fixes if name != ALL)
    bench = Bench(asked.program, Budget(asked.minutes * 60), asked.patience)
    try:
        circumstances = recorded(bench)
    except KeyboardInterrupt:
        raise DoctorError("it was interrupted before anything was measured", exit_code=INTERRUPTED) from None
    report = circumstances.report
    choice = chosen(circumstances, named, everything=ALL in asked.fixes)
    turns = Turns(bench, plan_runs(bench, circumstances.report), ran)
    trial = Trial(
        program=str(asked.program),
        budget_s=asked.minutes * 60,
        tried=choice.left_out,
        by_rules=tuple(rule for rule in _rules_of(report) if not remedies_for(rule)),
    )
    if not choice.arms:
        return replace(report, trial=replace(trial, spent_s=bench.budget.spent_s))
    tell(plan_told(bench, choice.arms))
    set_of_all: Arm | None = None
    try:
        turns.settle(choice.arms, then_together=True)
        helping = [arm for arm in choice.arms if tried(turns, arm, report).verdict == BETTER]
        set_of_all = together(turns, helping)
        if set_of_all is None:
            turns.settle_rest(choice.arms)
    except KeyboardInterrupt:
        turns.ended = "it was interrupted"
    trial = replace(trial, spent_s=bench.budget.spent_s, runs=bench.runs, steps=bench.made, ended=turns.ended)
    found = _found(trial, turns, choice, set_of_all, report)
    return replace(report, trial=_with_patch(found, choice, report, asked.program.script))


def recorded(bench: Bench) -> Circumstances:
    """Record the unchanged program, and report on it."""
    with bench.recorded() as path:
        return known_from(path, bench)


def known_from(path: Path, bench: Bench) -> Circumstances:
    """What a recording tells; the bench measures the same steps from now on."""
    trace = replace(open_trace(path).trace, label=str(bench.program))
    bench.source = trace.facts.step_source if trace.facts is not None else None
    return Circumstances(load_input(trace, settings=settings_here()).report, trace.facts)


def chosen(circumstances: Circumstances, named: Sequence[Chosen], *, everything: bool) -> Choice:
    """What to try: what was named, else what answers the findings in the order of the plan; first one fix of each."""
    report = circumstances.report
    if everything:
        wanted = [*named, *(Chosen(remedy) for remedy in REMEDIES)]
    else:
        by_turns = zip_longest(*(remedies_for(rule) for rule in _rules_of(report)))
        wanted = list(named) or [Chosen(remedy) for each in by_turns for remedy in each if remedy is not None]
    fixes = dict.fromkeys(settled_on(fix, circumstances) for fix in wanted)
    reasons = {fix: fix.remedy.why_not(circumstances) for fix in fixes}
    arms = tuple(Arm((fix,)) for fix, reason in reasons.items() if reason is None)
    left_out = (left_out_for(fix, report, reason) for fix, reason in reasons.items() if reason)
    return Choice(arms, tuple(left_out))


def _rules_of(report: Report) -> list[str]:
    """The rules with findings: those of the plan in its order, then the others."""
    planned = [step.rule for step in report.plan.steps]
    return list(dict.fromkeys([*planned, *(found.rule for found in report.failed)]))


def plan_runs(bench: Bench, report: Report) -> int:
    """Decide how many steps each run has; returns how many of them are its beginning."""
    whole = report.whole_run
    skipped = max(DEFAULT.skip, whole.startup_steps if whole is not None else 0)
    step_s = report.step_time_s.stated if report.step_time_s is not None else _MEASURED_S
    bench.skipped = skipped
    bench.steps = skipped + min(max(math.ceil(_MEASURED_S / step_s), _FEWEST), _MOST)
    return skipped


def plan_told(bench: Bench, arms: Sequence[Arm]) -> str:
    """What will run, how often and for how long."""
    names = ", ".join(" + ".join(arm.names) for arm in arms)
    left = math.floor(bench.budget.left_s / 6) / 10
    return (
        f"trying {names}: each in turns with the unchanged program, at most {bench.steps} steps a run, until it is "
        f"settled, for {counted(left, 'minute')} at most"
    )


def _found(trial: Trial, turns: Turns, choice: Choice, all_of: Arm | None, report: Report) -> Trial:
    """The trial with all that was measured."""
    if not turns.unchanged:
        return trial
    each = tuple(tried(turns, arm, report) for arm in choice.arms)
    several = tried(turns, all_of, report) if all_of is not None and len(all_of.fixes) > 1 else None
    helping = [found.name for found in each if found.verdict == BETTER]
    trial = replace(
        trial,
        unchanged_s=turns.step_s,
        noise=turns.noise,
        disturbed_s=turns.disturbed_s,
        tried=(*each, *choice.left_out),
        together=several,
    )
    kept = trial.answer.fixes if trial.answer is not None else ()
    return replace(trial, without=tuple(name for name in helping if all_of is not None and name not in kept))


def _with_patch(trial: Trial, choice: Choice, report: Report, script: Path | None) -> Trial:
    """The trial with the changes of its answer."""
    best = trial.answer
    if best is None:
        return trial
    fixes = [fix for arm in choice.arms for fix in arm.fixes if fix.name in best.fixes]
    patch = patch_of([(fix, _place(fix, report)) for fix in fixes], script, on_gpu=report.device.kind == "gpu")
    return replace(trial, patch=patch.diff or None, by_hand=patch.by_hand)


def _place(fix: Chosen, report: Report) -> str | None:
    found = report.diagnosis(rule_of(fix, report) or "")
    return found.place if found is not None else None
