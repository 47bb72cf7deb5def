"""Much of the run is no training step: evaluations, checkpoints, rollouts, or a long start.

What it measures
    The wall time of the whole block of mfu_doctor.profile() or mfu-doctor run, minus its training steps and minus the recorder's
    own work: what lies between steps, and what long steps take more than usual ones in lines that are no part of a step. A
    sampler shows which line this time belongs to. What a trainer of a library does by itself has no such line: then its own
    function is named, and the line of the program that makes the callback or gives the option, if only one fits. The time before
    the first step counts once it takes a minute.

Why it costs
    MFU and all other findings are about the training step. If half of the run is something else, a step that is twice as fast
    makes the run only a quarter shorter.

How the gain is predicted
    Nothing is replayed: this time was measured. The stated gain in samples per second is that of the fix as it is printed, at the
    line that takes most of this time. How much of the work stays with it depends on what the work is.
    Evaluations, checkpoints, generated text and unknown work: so many times less of it that it takes 5 % of the run. Rarer,
    smaller and faster multiply.
    Rollouts: as many more environments as this machine has cores, which take no longer. Workers that start again: they start
    once. A long start: half of it.
    The detail states the gain of half as much of it and of none of it.

How to fix
    Evaluate and save less often, on less data, in larger batches or in another process. Run several environments at the same
    time, in processes of their own. Do at the start only what has to be done again.

When it is wrong
    The rule is wrong if this work is the purpose of the program, or if a short trial run does it more often than the real one.
    Environments that share one core, or wait for each other, gain less. What steps learn from (a rollout) is no fault: more
    environments are a choice, because they change what is learned. It is known by its name, or by what recorded steps do with it:
    it draws random numbers and keeps what it makes, and usual steps take rows by an index.

References
    https://pytorch.org/docs/stable/distributed.checkpoint.html (async_save)
    https://gymnasium.farama.org/api/vector/ (environments in parallel)
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.collected_data import is_named_for_it, may_be_learned_from
from mfu_doctor.analysis.evidence.rare_work import times_less
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.whole_run import BEFORE, BETWEEN, LONG, TRAINING, Elsewhere, WholeRun
from mfu_doctor.quantities import counted, duration, percent_range, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown

# An evaluation of a tenth of the data after each pass takes about 3 % of the time (no backward pass), one of half the data 15 %.
# What takes more than a fifth is more than that.
MUCH = 0.2
# Shorter starts are waited for without a thought; imports and a first compilation take seconds.
START_WORTH_S = 60.0
_SHOWN = 3  # places in the evidence
_HALF = 0.5
_MOST_AT_ONCE = 16  # environments: more of them wait for each other
_RARER = {
    "evaluation": "evaluate less often, on less data or in larger batches",
    "checkpoint": "save less often, or from another thread: torch.distributed.checkpoint.async_save",
    "logging": "log less often, and fewer values",
    "generation": "generate less often, fewer tokens, several prompts at a time, and with use_cache=True",
}
_NAMES = {"checkpoint": "checkpoints"}  # where its kind alone is no name for the work
_RARER_ELSE = "do it less often, or in another process"
_ROLLOUT = "rollout"
_SIMULATED = (_ROLLOUT, "environment")


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
    if not whole.steps_s:
        return Skip("no training step was seen in the block")
    often = tuple(_with_its_kind(run, e) for e in (*_at(whole, BETWEEN), *whole.other_work))
    spent = whole.between_s + sum(e.seconds for e in whole.other_work)
    known, once = whole.steps_s + whole.between_s + whole.long_s, whole.before_s
    host = run.facts.host if run.facts is not None else None
    cores = host.usable_cores if host is not None else None
    if spent > MUCH * known:
        return _found(whole, _Part(spent, known, often, cores))
    if once > START_WORTH_S and once > MUCH * (known + once):
        return _found(whole, _Part(once, known + once, _at(whole, BEFORE), cores, start=True))
    return None


def _with_its_kind(run: Run, work: Elsewhere) -> Elsewhere:
    """Work of which nothing tells what it is may be what steps learn from: to do less of it is no advice then."""
    if work.kind is not None:
        return work
    learned = is_named_for_it(work.function) or (work.part == LONG and may_be_learned_from(run, run.extra_work))
    return replace(work, kind=_ROLLOUT) if learned else work


def _at(whole: WholeRun, part: str) -> tuple[Elsewhere, ...]:
    return tuple(e for e in whole.elsewhere if e.part == part)


class _Part(Struct, frozen=True):
    """A part of the run beside its steps, in seconds.

    Attributes:
        spent_s: all of it.
        of_s: the part with the steps that it is compared with.
        places: where it was seen.
        cores: that the process may use, None if unknown.
        start: whether it lies before the first step.
    """

    spent_s: float
    of_s: float
    places: tuple[Elsewhere, ...]
    cores: float | None
    start: bool = False

    @property
    def steps_s(self) -> float:
        """The time in steps."""
        return self.of_s - self.spent_s

    @property
    def top(self) -> Elsewhere | None:
        """The place with most of it, None if nothing tells."""
        return _longest(self.places)[0]

    @property
    def is_learned_from(self) -> bool:
        """Whether most of it makes what the steps learn from."""
        return self.top is not None and self.top.kind in _SIMULATED

    @property
    def top_s(self) -> float:
        """What this place takes, with its part of what was seen at no place; all of it if nothing tells."""
        seen_s = sum(e.seconds for e in _told(self.places))
        return self.spent_s * _longest(self.places)[1] / seen_s if seen_s else self.spent_s

    def gain(self, left: float) -> float:
        """Relative gain in samples per second if this share were left of what the top place takes."""
        return self.of_s / (self.of_s - self.top_s * (1.0 - left)) - 1.0


def _found(whole: WholeRun, part: _Part) -> Finding:
    what, where = _words(part.top, "the start" if part.start else "other work")
    told = "lies before the first step" if part.start else "after its start is not training steps"
    remedy, left = _remedy(whole, part)
    # Runs of different lengths are compared by this evidence: what comes again and again is per step, the start comes once.
    many, per = (1, "") if part.start else (whole.steps, ", per step")
    return Finding(
        summary=f"{share(part.spent_s, part.of_s)} of the run {told}: {duration(part.spent_s)} beside "
        f"{duration(part.steps_s)} in steps{f', most of it {what}' if part.top else ''}",
        fix=f"# {where or what}: {remedy}",
        detail=_detail(whole.steps, part),
        evidence=(
            shown(f"time outside of steps{per}", part.spent_s / many, "s"),
            shown(f"time in steps{per}", part.steps_s / many, "s"),
            shown("share of the run", part.spent_s / part.of_s, "share"),
            shown("left of it with the fix", left, "share"),
            *(shown(f"{_words(e, 'other work')[0]}{per}", e.seconds / many, "s", e.line) for e in part.places[:_SHOWN]),
        ),
        effort="refactor",
        risk="convergence" if part.is_learned_from else "none",
        place=part.top.line if part.top else None,
        throughput_gain=part.gain(left),
        outside_share=_HALF * part.top_s * (1.0 - left) / part.steps_s,
    )


def _remedy(whole: WholeRun, part: _Part) -> tuple[str, float]:
    """What to do about the place that takes most, and the share of its time that is left then."""
    kind = part.top.kind if part.top else None
    if part.start:
        return "do only what has to be done again; keep the rest in a file: the gain is that of half of it", _HALF
    if part.is_learned_from:
        at_once = min(max(int(part.cores or 0), 2), _MOST_AT_ONCE)
        return f"{at_once} times as many environments at the same time: gymnasium.vector.AsyncVectorEnv", 1.0 / at_once
    if kind == "data loading" and whole.gaps > 1:
        return "keep the workers: DataLoader(..., num_workers=2, persistent_workers=True)", 1.0 / whole.gaps
    times = times_less(part.top_s, part.of_s - part.top_s)
    return f"{times} times less of it: {_RARER.get(kind or '', _RARER_ELSE)}", 1.0 / times


def _told(found: tuple[Elsewhere, ...]) -> list[Elsewhere]:
    """What has a line of the program, or is known for what it is; all of it if nothing is."""
    return [e for e in found if e.place is not None or e.kind not in (None, TRAINING)] or list(found)


def _longest(found: tuple[Elsewhere, ...]) -> tuple[Elsewhere | None, float]:
    """The place with most time, and its seconds; entries of one line, and of one function of a library, count together."""
    seconds: dict[str | None, float] = {}
    first: dict[str | None, Elsewhere] = {}
    for e in _told(found):
        at = e.line or e.function
        seconds[at] = seconds.get(at, 0.0) + e.seconds
        first.setdefault(at, e)
    if not seconds:
        return None, 0.0
    most = max(seconds, key=lambda at: seconds[at])
    return first[most], seconds[most]


def _words(top: Elsewhere | None, unknown: str) -> tuple[str, str | None]:
    """What it is, as far as anything tells, and its line with what is called there, or what a library calls without one."""
    if top is None:
        return unknown, None
    what = _NAMES.get(top.kind or "", top.kind) or top.call or unknown
    return what, f"{top.line} {top.call or what}" if top.line else top.call


def _detail(steps: int, part: _Part) -> str:
    if part.start:
        return f"the {counted(steps, 'step')} after it take {duration(part.steps_s)}"
    half, all_of_it = (percent_range(gain, gain) for gain in (part.gain(_HALF), part.gain(0.0)))
    each = f"{duration(part.spent_s / steps)} a step, beside {duration(part.steps_s / steps)} of training"
    return f"{each}; with half of it {half} faster, without it {all_of_it}"
