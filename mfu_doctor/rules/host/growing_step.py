"""The step takes longer and longer as the run goes on.

What it measures
    All steps of mfu_doctor.profile() or mfu-doctor run without the profiler, to the end of the block: whether the usual step of
    equal parts of the run rises in a line, also if it falls back and rises again with each epoch. A sampler shows which line of
    the program takes longer in the long steps than in the short ones. If all lines become slower alike, the machine does, and
    nothing is found.

Why it costs
    A metric over all samples so far, a list that is searched, a graph that is never cut, a file that is written again as a whole:
    what costs little in the first steps costs more in each step, and the longer the run the more.

How the gain is predicted
    Nothing is replayed: this time was measured. The gain is that of a step that stays as it is at the beginning of a rise,
    against the mean of this run. A longer run gains more. What steps took at the beginning is measured where a rise is not a
    straight line. A metric leaves the step as a whole, with what the first steps have of it: the gain is that of the shortest
    third of the steps without its line, if that is less than the first step.

How to fix
    Compute metrics over an epoch when it ends. Keep numbers and not tensors with their graph: loss.item(), or loss.detach().
    Detach what is passed from step to step. Keep the latest N entries: collections.deque(maxlen=N). Append to files.

When it is wrong
    The rule is wrong if the work itself grows on purpose: longer sequences, larger images, a memory that has to fill. Then
    forward grows as backward does, and the finding is not recommended; a graph that is never cut makes backward alone longer. On
    a GPU the line can be the one that waits for what grows.

References
    https://pytorch.org/docs/stable/notes/faq.html#my-model-reports-cuda-runtime-error-2-out-of-memory (history across the loop)
    https://lightning.ai/docs/torchmetrics/stable/pages/overview.html
"""

from __future__ import annotations

from collections.abc import Iterable

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.growth import Growth
from mfu_doctor.facts.whole_run import LineTime
from mfu_doctor.quantities import duration, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown

GROWS = "steps grow"  # begins the reason where it is not known which line does
_LEAST_STEP = 0.05  # of a step that nothing but this line takes, a sampler sees no more
_SHOWN = 3  # lines in the evidence
# Larger inputs lengthen forward and backward in proportion, within this factor.
_ALIKE = 0.5
_FORWARD = 0.2  # of backward's time at first: forward takes a third to a half of it, what only adds up losses far less
_BACKWARD = "backward"
_METRICS = ("torchmetrics", "sklearn", "scipy", "ignite", "torcheval", "evaluate")
_WRITERS = ("matplotlib", "PIL", "json", "pickle", "csv", "pandas", "wandb", "mlflow", "pyarrow", "h5py")
_METRIC = "compute it when the epoch ends, every 100 steps, or over the latest samples only"
_WRITE = "write only what is new, or every 100 steps"
_GRAPH = "the graph behind it grows: detach what is kept from step to step, and keep loss.item() in place of losses"
_LARGER = "forward grows as backward does, as with longer sequences or a memory that fills: else cut what is kept"
_ELSE = "keep what it works on at one size (collections.deque(maxlen=N)), or do it every 100 steps"


# The line that calls a trainer is the training as a whole: what grows is in what it does for each step.
_BY_ITSELF = (
    "what a callback, a metric or a log keeps from each step grows; keep the latest of it, or do it every 100 steps"
)


@rule(
    "growing-step",
    "HO036",
    "the step grows longer as the run goes on",
    also=("memory-leak", "growing-list", "metric-state", "growing-graph"),
)
def growing_step(run: Run) -> Outcome:
    """Judge how the usual step changes over the run."""
    course = run.facts.course if run.facts is not None else None
    if course is None:
        return Skip("how steps change is only known of runs that mfu-doctor run or mfu_doctor.profile() recorded")
    growth = run.growth
    if growth is None:
        return None
    if not growth.lines:
        return Skip(
            f"{GROWS} from {duration(growth.first_s)} to {duration(growth.last_s)}, but the run was too short to see where"
        )
    top = growth.lines[0]
    gained, inside = _saved_s(growth, top) / growth.mean_s, top.call in run.trainers
    return Finding(
        summary=f"A step takes {duration(growth.first_s)} at first and {duration(growth.last_s)} "
        f"{'in the end' if growth.rises == 1 else f'later, {growth.rises} times in this run'}: "
        f"it grows by {duration(growth.step_s, 2)} a step",
        fix=f"# {top.function}() of {top.library}: {_BY_ITSELF}" if inside else f"# {_called(top)}: {_remedy(top)}",
        detail=_detail(run, growth, top),
        evidence=(
            shown("step at first", growth.first_s, "s"),
            shown("step in the end", growth.last_s, "s"),
            shown("growth of a step", growth.step_s, "s"),
            shown("standard error of the growth", growth.error_s, "s"),
            shown("growth in the mean of the run", growth.excess_s, "s"),
            *(shown(_called(line), line.long_s - line.short_s, "s", line.place) for line in growth.lines[:_SHOWN]),
        ),
        confidence="measured" if run.is_cpu else "hint",
        place=None if inside else top.place,
        withhold=_LARGER if _is_larger_work(growth.lines) else None,
        throughput_gain=1.0 / (1.0 - gained) - 1.0,
        outside_share=gained,
    )


def _saved_s(growth: Growth, top: LineTime) -> float:
    """What the mean step of the run is spared."""
    if not _leaves(top):
        return growth.excess_s
    return growth.mean_s - max(growth.without_s(top), _LEAST_STEP * growth.mean_s)


def _is_larger_work(lines: Iterable[LineTime]) -> bool:
    """Whether forward and backward grow in proportion: what they are given is larger, and no graph is longer."""
    known = [line for line in lines if not _leaves(line) and line.library not in _WRITERS]
    back = [line for line in known if line.function == _BACKWARD]
    rest = [line for line in known if line.function != _BACKWARD]
    (short, long), (before, after) = _times(back), _times(rest)
    if not short or before < _FORWARD * short or long - short < _ALIKE * (after - before):
        return False
    return after / before - 1 >= _ALIKE * (long / short - 1)


def _times(lines: Iterable[LineTime]) -> tuple[float, float]:
    """Seconds of these lines in the short steps, and in the long ones."""
    known = tuple(lines)
    return sum(line.short_s for line in known), sum(line.long_s for line in known)


def _leaves(line: LineTime) -> bool:
    """Whether the remedy takes the line out of the step."""
    return line.library in _METRICS


def _called(line: LineTime) -> str:
    """The line with what it calls: "train.py:41 compute() of torchmetrics"."""
    if line.function is None:
        return line.place
    return f"{line.place} {line.function}()" + (f" of {line.library}" if line.library else "")


def _remedy(line: LineTime) -> str:
    if line.function == _BACKWARD:
        return _GRAPH
    if _leaves(line):
        return _METRIC
    return _WRITE if line.library in _WRITERS else _ELSE


def _detail(run: Run, growth: Growth, top: LineTime) -> str:
    alone = top.long_s - top.short_s
    all_s = sum(line.long_s - line.short_s for line in growth.lines)
    more = ", and more in a longer one" if growth.rises == 1 else ""
    saved_s = _saved_s(growth, top)
    kept = "a step that stays as at first" if saved_s == growth.excess_s else "a step without it"
    said = f"{kept} saves {duration(saved_s)} of {duration(growth.mean_s)} in the mean of this run"
    seen = f"this line makes {share(alone, all_s)} of the growth that was seen"
    waits = "" if run.is_cpu else "; on a GPU it can be the line that waits for it"
    return f"{said}{more}; {seen}{waits}"
