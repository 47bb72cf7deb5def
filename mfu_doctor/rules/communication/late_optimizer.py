"""The optimizer waits for the last gradient reduction, although it could already update the other parameters.

What it measures
    For each step: the exposed communication after the last kernel of backward, the GPU time of the optimizer after it, and the
    share of the gradients in the last reduction.

Why it costs
    During the last reduction the GPU is idle. In this time it could update the parameters whose gradients are already reduced.

How the gain is predicted
    The optimizer work for all gradients, except those of the last reduction, can overlap with the exposed communication before
    it. The smaller of the two times can be saved.
    Low: half of it.
    Mid: 80 % of it.
    High: all of it.

How to fix
    torch.distributed.optim._apply_optimizer_in_backward, or ZeroRedundancyOptimizer(overlap_with_ddp=True). With FSDP2, step the
    optimizer of each block in its post-accumulate-gradient hook.

When it is wrong
    The rule is wrong if the last reduction is long only because it waits for a late rank. Clipping by the norm of all gradients
    and GradScaler need every gradient first: if the trace contains one of them, the rule is not applied.

References
    https://pytorch.org/tutorials/intermediate/optimizer_step_in_backward_tutorial.html
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.optimizer import Optimizer, optimizer_of
from mfu_doctor.analysis.evidence.parallelism import parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.names.optimizers import SEARCHES, TORCH_OPTIMIZERS
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Operators that need all gradients before optimizer.step().
_NEEDS_ALL = re.compile(
    r"^aten::(linalg_vector_norm|_foreach_norm|norm|frobenius_norm|_amp_foreach_non_finite_check_and_unscale_)$"
)
_HIDDEN = (0.5, 0.8, 1.0)  # share of what can overlap with the exposed communication


class _Tail(Struct, frozen=True):
    """Mean nanoseconds per steady step: exposed reductions before the optimizer, its device time, and what can move."""

    exposed_ns: float
    optimizer_ns: float
    movable_ns: float


@rule(
    "late-optimizer",
    "CO015",
    "the optimizer waits for the last reduction",
    needs=(Need.DEVICE,),
    also=("optimizer-in-backward",),
)
def late_optimizer(run: Run) -> Outcome:
    """Judge what the device does between backward and the optimizer."""
    steady = steady_of(run)
    every, optimizer = collectives_of(run), optimizer_of(run, steady)
    if every is None or optimizer is None:
        return None
    used = parallelism_of(run)
    if not used.ddp and not used.fsdp2:
        return Skip(
            "the trace does not show DistributedDataParallel or fully_shard, whose gradients can be used one by one"
        )
    if len(ids_matching(run.trace, _NEEDS_ALL)):
        return Skip("gradient clipping or a GradScaler needs all gradients before optimizer.step()")
    if optimizer.name == SEARCHES:  # it needs all gradients first
        return None
    tail = _tail(run, steady, every, optimizer)
    hidden = min(tail.exposed_ns, tail.movable_ns)
    if hidden < WORTH_SHARE * steady.step_ns:
        return None
    part = hidden / tail.optimizer_ns
    rows = optimizer.rows
    return Finding(
        summary=f"GPU waits {time_of(tail.exposed_ns)} per step for the last gradient reduction; then the optimizer takes "
        f"{steady.share(tail.optimizer_ns)} of the step",
        fix=f"torch.distributed.optim._apply_optimizer_in_backward({_class(optimizer)}, "
        "model.parameters(), {'lr': lr})  # before wrapping in DistributedDataParallel",
        detail=f"for {share(tail.movable_ns, tail.optimizer_ns)} of its work the gradients are ready before this reduction ends",
        decides=Ends(
            low="most of it belongs to the last gradients", high="the optimizer's work is spread evenly over backward"
        ),
        change=Change(*((ScaleDevice(rows, np.full(len(rows), 1.0 - part * f)),) for f in _HIDDEN)),
        evidence=(
            shown("exposed communication before the optimizer", seconds(tail.exposed_ns), "s"),
            shown("optimizer", seconds(tail.optimizer_ns), "s"),
            shown("optimizer time that could run earlier", seconds(tail.movable_ns), "s"),
        ),
        effort="refactor",
        symptom_of=("slow-link", "sync-every-microbatch", "small-buckets", "exposed-communication"),
    )


def _class(optimizer: Optimizer) -> str:
    """How the user spells the optimizer's class."""
    name = optimizer.name or "Optimizer"
    return f"torch.optim.{name}" if name in TORCH_OPTIMIZERS else name


def _tail(run: Run, steady: Steady, every: Collectives, optimizer: Optimizer) -> _Tail:
    """Look at each steady step: the reductions between the last other work and the optimizer's first."""
    activity = run.activity
    reducing = np.isin(every.kind, ("allreduce", "reducescatter"))
    working = np.ones(activity.count, np.bool_)
    working[every.entry] = False
    working &= ~optimizer.entries
    exposed = updating = movable = 0.0
    for lo, hi in zip(run.steps.start[run.steps.steady], run.steps.end[run.steps.steady], strict=True):
        inside = (activity.start >= lo) & (activity.start < hi)
        mine = np.flatnonzero(inside & optimizer.entries)
        reductions = np.flatnonzero(reducing & inside[every.entry])
        if not len(mine) or not len(reductions):
            continue
        begins = int(activity.start[mine].min())
        before = activity.end[inside & working & (activity.start < begins)]
        last_work = int(before.max(initial=lo))
        late = reductions[activity.end[every.entry[reductions]] > last_work]
        late = late[activity.start[every.entry[late]] < begins]
        length = float((activity.end - activity.start)[mine].sum())
        updating += length
        if len(late):
            last = late[np.argmax(activity.end[every.entry[late]])]
            exposed += min(max(int(activity.end[every.entry[last]]) - last_work, 0), int(every.exposed_ns[late].sum()))
            movable += length * (1.0 - _part(every, int(last), reductions))
    return _Tail(steady.per_step(exposed), steady.per_step(updating), steady.per_step(movable))


def _part(every: Collectives, last: int, reductions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """Share of the reduced bytes in the last reduction; if sizes are unknown, of their number."""
    sizes = every.size[reductions].astype(np.float64)
    if (sizes < 0).any() or not sizes.sum():
        return 1.0 / len(reductions)
    return float(every.size[last]) / float(sizes.sum())
