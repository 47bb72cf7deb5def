"""What trying a fix showed, in words: the same in every output."""

from __future__ import annotations

import re

from mfu_doctor import quantities
from mfu_doctor.render.words.text import clean
from mfu_doctor.result import trial as known
from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import Trial, Tried

HEADS = ("fix", "predicted", "saves per step", "noise", "verdict")
"""Over the columns of the table."""

_SPACES = re.compile("([ \t]+)")
_MANY_TIMES = 10.0  # of a loss
_ANYTHING = 10  # steps: a range that is wider says nothing
_LAST_BITS = 1e-6  # of a loss: smaller differences are of no interest
_LEAST_START_S = 1.0  # less is not worth a word
_NOTHING = "The recording shows no fault whose fix can be tried. --fix all tries every fix that applies here."
_TOO_EARLY = "No fix has been measured."
_LOSSES = {
    known.IDENTICAL: "the losses are identical",
    known.AS_UNCHANGED: "the losses differ no more than between two unchanged runs",
    known.OTHER_ORDER: "single losses differ from step {step} on, their course does not",
    known.CLOSE: "the losses differ by {most} at most",
    known.DRIFTS: "the losses drift from step {step} on, by {most} at most",
    known.DIVERGES: "the losses rise from step {step} on",
    known.NOT_A_NUMBER: "the loss is not a number from step {step} on",
    known.NO_LOSS: "no loss was seen: nothing called backward() on one number",
}


def rows(trial: Trial) -> list[Tried]:
    """What the table lists."""
    return [*trial.tried, *((trial.together,) if trial.together is not None else ())]


def figures(tried: Tried) -> tuple[str, ...]:
    """A row of the table."""
    return tried.name, predicted(tried), measured(tried), noise(tried), tried.verdict


def patch_lines(trial: Trial | None) -> list[str]:
    """The lines of the patch without control characters; spaces stay, so that what is copied can be applied."""
    return [_clean_code(row) for row in (trial.patch or "").splitlines()] if trial is not None else []


def _clean_code(row: str) -> str:
    return "".join(part if part.isspace() else clean(part) for part in _SPACES.split(row))


def predicted(tried: Tried) -> str:
    """What was predicted: "57-62 ms"; empty if nothing was."""
    if tried.predicted_low_s is None or tried.predicted_high_s is None:
        return ""
    return quantities.duration_range(tried.predicted_low_s, tried.predicted_high_s)


def measured(tried: Tried) -> str:
    """What was measured, with its interval: "58.1 ms (55 to 61)"; empty if it could not be."""
    low, middle, high = tried.saving_low_s, tried.saving_s, tried.saving_high_s
    if low is None or middle is None or high is None:
        return ""
    if tried.step_s is not None and high - low > _ANYTHING * tried.step_s:
        return f"{quantities.duration(middle)} (too noisy)"
    scale, unit = quantities.time_unit(max(abs(low), abs(middle), abs(high), quantities.SMALLEST_TIME_S))
    return f"{quantities.significant(middle / scale)} {unit} ({_ends(low / scale, high / scale)})"


def _ends(low: float, high: float) -> str:
    """Two ends to two digits of the larger one: "-5.9 to 2.1"; one that is not 0 is not shown as 0: "0.3 to 11"."""
    decimals = len(quantities.significant(max(low, high, key=abs), 2).partition(".")[2])
    return " to ".join(_end(end, decimals) for end in (low, high))


def _end(end: float, decimals: int) -> str:
    text = quantities.significant(end, 2)
    if len(text.partition(".")[2]) <= decimals:
        return text
    return f"{end:.{decimals}f}" if round(end, decimals) else quantities.significant(end, 1)


def noise(tried: Tried) -> str:
    """How far chance alone moves the figure: "1.9 ms"."""
    return "" if tried.noise_s is None else quantities.duration(tried.noise_s, 2)


def beside(tried: Tried) -> list[str]:
    """What else is known of it, in sentences."""
    if tried.verdict in (known.NOT_TRIED, known.REFUSED) or not tried.runs:
        return [tried.reason] if tried.reason else []
    told = [_loss(tried)]
    if tried.loss not in (None, known.IDENTICAL, known.AS_UNCHANGED, known.NO_LOSS):
        told.append(f"to be expected of it: {tried.numerics}")
    if tried.saving_s is None and tried.step_s is not None:
        told.append(f"its step took {quantities.duration(tried.step_s)} in one run")
    if tried.samples != 1.0:
        told.append(f"saved of as many samples: {_more_samples(tried)}")
    if tried.start_s is not None and tried.start_s > _LEAST_START_S:
        told.append(f"its first steps take {quantities.duration(tried.start_s, 2)} more, once")
    failed = [tried.reason] if tried.reason else []
    return [*failed, "; ".join(text for text in told if text)]


def in_report(tried: Tried) -> str:
    """A trial in a report: "tried: 14.1 ms measured, 13-16 ms predicted"."""
    verdict = tried.verdict + (f" ({tried.reason})" if tried.reason else "")
    if not tried.runs:
        return f"tried {tried.name}: {verdict}"
    ahead = predicted(tried)
    told = f"tried {tried.name}: {measured(tried) or 'nothing'} measured"
    told += " for as many samples" if tried.samples != 1.0 else ""
    told += f", {ahead} predicted" if ahead else ""
    return told if verdict == known.BETTER else f"{told}: {verdict}"


def tried_for(report: Report, rule: str) -> list[str]:
    """What trying the fixes of a rule showed, one phrase for each."""
    return [in_report(one) for one in report.trial.tried if one.rule == rule] if report.trial is not None else []


def of_program(report: Report) -> str:
    """What to do by the trial of a report: "Tried on the program: ..."; empty if nothing was run."""
    trial = report.trial
    return f"Tried on the program: {answer(trial)}" if trial is not None and trial.runs else ""


def headline(trial: Trial) -> str:
    """What was run, and the step of the unchanged program with its noise."""
    if not trial.runs:
        return f"recorded in {quantities.duration(trial.spent_s)}"
    runs = f"{quantities.counted(trial.runs, 'run')} in {quantities.duration(trial.spent_s)}"
    if trial.unchanged_s is None:
        return f"{runs}: the unchanged program was not measured"
    told = f"{runs}, {trial.steps} steps each. The unchanged step takes {quantities.duration(trial.unchanged_s)}"
    if trial.noise is None:
        return told
    left_out = ", ".join(quantities.duration(step_s) for step_s in trial.disturbed_s)
    disturbed = f"; disturbed, and left out: a run of {left_out} a step" if left_out else ""
    return f"{told}; a run differs from the next by {quantities.percent(trial.noise)}{disturbed}"


def answer(trial: Trial) -> str:
    """What to do, in a sentence or two."""
    best = trial.answer
    if best is None or best.saving_s is None or trial.unchanged_s is None:
        return _no_answer(trial)
    after = trial.unchanged_s - best.saving_s
    share = quantities.percent(best.saving_s / trial.unchanged_s, 0)
    old, new = quantities.duration(trial.unchanged_s), quantities.duration(after)
    told = (
        f"{best.name}: the step goes from {old} to {new}, {share} shorter."
        if best.samples == 1.0
        else f"{best.name}: as many samples take {new} instead of {old} ({share} less); {_more_samples(best)}."
    )
    if trial.without:
        told += f" Left out: {', '.join(trial.without)}."
    return told


def _more_samples(tried: Tried) -> str:
    return f"a step has {quantities.number(tried.samples)} times as many"


def _no_answer(trial: Trial) -> str:
    if not trial.runs:
        return _NOTHING if trial.ended is None else _TOO_EARLY
    is_open = trial.ended is not None or any(tried.verdict == known.OPEN for tried in trial.tried)
    return f"No fix {'is known to make' if is_open else 'that was tried makes'} the step shorter{' yet' if is_open else ''}."


def untried(trial: Trial) -> str:
    """The findings that no fix from outside answers; empty if there are none."""
    return f"No fix from outside answers {', '.join(trial.by_rules)}." if trial.by_rules else ""


def stopped(trial: Trial) -> str:
    """Why it was over before all was settled; empty if all was."""
    return "" if trial.ended is None else f"Not all is settled: {trial.ended}."


def share_of_loss(share: float) -> str:
    """How far losses are apart at most: "0.04 %"."""
    share = max(share, _LAST_BITS)
    return f"{quantities.significant(100 * share, 1)} %" if share < _MANY_TIMES else "many times its size"


def _loss(tried: Tried) -> str:
    most = "" if tried.loss_change is None else share_of_loss(tried.loss_change)
    return _LOSSES[tried.loss].format(step=tried.loss_step, most=most) if tried.loss is not None else ""
