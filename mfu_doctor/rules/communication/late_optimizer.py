"""The optimizer waits until the last gradients have been reduced, although it could update all other parameters meanwhile.

What it measures
    In each step the exposed part of the reductions after the last computation of backward, the optimizer's device time after
    it, and the share of the gradients that travel in the last reduction.

Why it costs
    While the last bucket is on the wire the device has nothing to do, and updating parameters whose gradients have arrived
    is work that fits there exactly.

How the gain is predicted
    All of the optimizer but the share of the last reduction can move into the exposed time before it: the smaller of the two
    is hidden. Half of that (low), 80 % (mid), all (high).

How to fix
    torch.distributed.optim._apply_optimizer_in_backward, or ZeroRedundancyOptimizer(overlap_with_ddp=True); with FSDP2 step
    each block's optimizer in its post-accumulate-gradient hook.

When it is wrong
    Clipping by the norm of all gradients and unscaling by a GradScaler need every gradient first: where either is seen
    nothing is said. A collective that waits for a late rank looks like a long one.

References
    https://pytorch.org/tutorials/intermediate/optimizer_step_in_backward_tutorial.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.optimizer import Optimizer, optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Operators that need all gradients before the optimizer may step.
_NEEDS_ALL = re.compile(
    r"^aten::(linalg_vector_norm|_foreach_norm|norm|frobenius_norm|_amp_foreach_non_finite_check_and_unscale_)$"
)
_HIDDEN = (0.5, 0.8, 1.0)  # share of what fits into the exposed time


@dataclass(frozen=True, slots=True)
class _Tail:
    """Means per steady step in nanoseconds: exposed reductions before the optimizer, its device time, and what can move."""

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
    if len(ids_matching(run.trace, _NEEDS_ALL)):
        return Skip("gradient clipping or a GradScaler needs all gradients before the optimizer may step")
    tail = _tail(run, steady, every, optimizer)
    hidden = min(tail.exposed_ns, tail.movable_ns)
    if hidden < WORTH_SHARE * steady.step_ns:
        return None
    part = hidden / tail.optimizer_ns
    rows = optimizer.rows
    return Finding(
        summary=f"The GPU waits {time_of(tail.exposed_ns)} for the last reduction, then the optimizer takes "
        f"{steady.share(tail.optimizer_ns)} of the step",
        fix=f"torch.distributed.optim._apply_optimizer_in_backward(torch.optim.{optimizer.name or 'AdamW'}, "
        "model.parameters(), {'lr': lr})  # before wrapping in DistributedDataParallel",
        detail=f"{share(tail.movable_ns, tail.optimizer_ns)} of its work has its gradients before the last reduction ends",
        change=Change(*((ScaleDevice(rows, np.full(len(rows), 1.0 - part * f)),) for f in _HIDDEN)),
        evidence=(
            shown("exposed before the optimizer", seconds(tail.exposed_ns), "s"),
            shown("optimizer", seconds(tail.optimizer_ns), "s"),
            shown("could run earlier", seconds(tail.movable_ns), "s"),
        ),
        effort="refactor",
        symptom_of=("slow-link", "sync-every-microbatch", "small-buckets", "exposed-communication"),
    )


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
    """Share of the reduced bytes in the last reduction; where sizes are unknown, of their number."""
    sizes = every.size[reductions].astype(np.float64)
    if (sizes < 0).any() or not sizes.sum():
        return 1.0 / len(reductions)
    return float(every.size[last]) / float(sizes.sum())
