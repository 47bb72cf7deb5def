"""Much of the run is no training step: evaluations, checkpoints, rollouts, or a long start.

What it measures
    The wall time of the whole block of mfu_doctor.profile() or mfu-doctor run, minus its training steps and minus the recorder's
    own work: what lies between steps, and what long steps take more than usual ones in lines that are no part of a step. A
    sampler shows which line this time belongs to. The time before the first step counts once it takes a minute.

Why it costs
    MFU and all other findings are about the training step. If half of the run is something else, a step that is twice as fast
    makes the run only a quarter shorter.

How the gain is predicted
    Nothing is replayed: this time was measured. The stated gain in samples per second is that of half as much of this work, for
    example half as many evaluations.

How to fix
    Evaluate and save less often, on less data, in larger batches or in another process. Run several environments at the same
    time, in processes of their own. Do at the start only what has to be done again.

When it is wrong
    The rule is wrong if this work is the purpose of the program, or if a short trial run does it more often than the real one.

References
    https://pytorch.org/docs/stable/distributed.checkpoint.html (async_save)
    https://gymnasium.farama.org/api/vector/ (environments in parallel)
"""

from __future__ import annotations

from collections.abc import Iterable

from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, duration, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.whole_run import BEFORE, BETWEEN, LONG, TRAINING, Elsewhere, WholeRun

# An evaluation of a tenth of the data after each pass takes about 3 % of the time (no backward pass), one of half the data 15 %.
# What takes more than a fifth is more than that.
MUCH = 0.2
# Shorter starts are waited for without a thought; imports and a first compilation take seconds.
START_WORTH_S = 60.0
# The stated gain is that of half as much of this work.
_HALF = 0.5
# What a step can be long for without other work in it: a late batch, a busy machine, a second kind of step.
_OF_A_STEP = ("data loading", TRAINING)
_SHOWN = 3  # places in the evidence
_FIXES = {
    "evaluation": "less often, on less data or in larger batches",
    "checkpoint": "less often, or from another thread: torch.distributed.checkpoint.async_save",
    "rollout": "with several environments at the same time: gymnasium.vector.AsyncVectorEnv",
    "environment": "with several environments at the same time: gymnasium.vector.AsyncVectorEnv",
    "generation": "less often, with fewer tokens, several prompts at a time, and use_cache=True",
    "data loading": "with workers that stay: DataLoader(..., num_workers=2, persistent_workers=True)",
}
_ELSE = "less often, or in another process"


@rule(
    "outside-steps",
    "HO034",
    "much of the run is not training steps",
    also=("evaluation-time", "rollout", "environment-bound", "checkpoint-time", "slow-start"),
)
def outside_steps(run: Run) -> Outcome:
    """Compare the time outside of usual steps with the time in them."""
    whole = run.facts.whole_run if run.facts is not None else None
    if whole is None:
        return Skip(
            "the time outside of steps is only known of runs that mfu-doctor run or mfu_doctor.profile() recorded"
        )
    if not whole.ended:
        return Skip("the block was not watched to its end, so that its time outside of steps is not known")
    often = (*_at(whole, (BETWEEN,)), *(e for e in _at(whole, (LONG,)) if e.function and e.kind not in _OF_A_STEP))
    spent = whole.between_s + sum(e.seconds for e in often if e.part == LONG)
    known, once = whole.steps_s + whole.between_s + whole.long_s, whole.before_s
    if spent > MUCH * known:
        return _found(whole, spent, known, often)
    if once > START_WORTH_S and once > MUCH * (known + once):
        return _found(whole, once, known + once, _at(whole, (BEFORE,)), start=True)
    return None


def _at(whole: WholeRun, parts: tuple[str, ...]) -> tuple[Elsewhere, ...]:
    return tuple(e for e in whole.elsewhere if e.part in parts)


def _found(
    whole: WholeRun, spent_s: float, of_s: float, places: tuple[Elsewhere, ...], *, start: bool = False
) -> Finding:
    top = _longest(places)
    what, where = _words(top, "the start" if start else "other work")
    told = "lies before the first step" if start else "after its start is not training steps"
    steps_s = of_s - spent_s
    gain = 1.0 / (1.0 - _HALF * spent_s / of_s) - 1.0
    return Finding(
        summary=f"{share(spent_s, of_s)} of the run {told}: {duration(spent_s)} beside {duration(steps_s)} in "
        f"steps{f', most of it {what}' if top else ''}",
        fix=f"# {where or what}: {_FIXES.get(top.kind or '', _ELSE) if top else _ELSE}",
        detail=_detail(whole.steps, spent_s, steps_s, start=start),
        evidence=(
            shown("time outside of steps", spent_s, "s"),
            shown("time in steps", steps_s, "s"),
            shown("share of the run", spent_s / of_s, "share"),
            *(shown(_words(e, "other work")[0], e.seconds, "s", e.place) for e in places[:_SHOWN]),
        ),
        effort="refactor",
        confidence="measured",
        place=top.place if top else None,
        throughput_gain=gain,
        outside_share=_HALF * spent_s / steps_s if steps_s else None,
    )


def _longest(found: Iterable[Elsewhere]) -> Elsewhere | None:
    """The place with most time; entries of one line count together."""
    seconds: dict[str | None, float] = {}
    first: dict[str | None, Elsewhere] = {}
    for e in found:
        seconds[e.place] = seconds.get(e.place, 0.0) + e.seconds
        first.setdefault(e.place, e)
    return first[max(seconds, key=lambda place: seconds[place])] if seconds else None


def _words(top: Elsewhere | None, unknown: str) -> tuple[str, str | None]:
    """What it is, as far as anything tells, and its line with what is called there."""
    if top is None:
        return unknown, None
    call = f"{top.function}()" if top.function else None
    what = top.kind or call or unknown
    return what, f"{top.place} {call or what}" if top.place else None


def _detail(steps: int, spent_s: float, steps_s: float, *, start: bool) -> str:
    if start:
        return f"the {counted(steps, 'step')} after it take {duration(steps_s)}"
    each = f"{duration(spent_s / steps)} for each step of {duration(steps_s / steps)}"
    return f"{each}; the gain is that of half as much of it"
