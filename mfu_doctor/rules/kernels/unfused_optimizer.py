"""The optimizer updates one tensor, or one operation, at a time, where one fused kernel could update all of them.

What it measures
    Device operations issued inside `Optimizer.step#` spans, and how the optimizer walks its parameters: single-tensor (a few
    operators per parameter), foreach (one kernel per operation over many tensors) or fused (one pass for everything).

Why it costs
    A single-tensor AdamW issues a dozen small kernels per parameter, each of which must be launched; and each operation
    reads and writes all of the state again, while one pass would do.

How the gain is predicted
    The optimizer's device work becomes one operation per step, and the host time of the spans shrinks. The floor of that
    operation is its memory traffic (parameter, gradient and state read once, parameter and state written once) over the
    device's bandwidth. Low end: the floor at half the bandwidth, with 30 % of a single-tensor step's host time (60 % of a
    foreach step's) left; mid: 70 % of the bandwidth and the host time measured for fused steps; high: the floor itself.
    Where bytes or bandwidth are unknown, 60 %, 35 % or 20 % of a single-tensor step's device time stays, and all of a foreach
    step's at the low end.

How to fix
    torch.optim.AdamW(model.parameters(), lr=..., fused=True), or foreach=True where fused does not exist. On a CPU fused
    needs torch 2.4 or newer.

When it is wrong
    Optimizers without a fused implementation (custom ones, LBFGS). With several parameter groups of few tensors each there
    is one launch per group. fused=True rounds in another order: results differ in the last bits.

References
    https://pytorch.org/docs/stable/optim.html#algorithms
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.optimizer import FOREACH, FUSED, SINGLE, Optimizer, optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.replay.edits import Change, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_S, seconds

# Kernels per step (some steps have a second for the last tensors) that are one pass over the parameters already.
ALREADY_ONE = 1.5
# Share of the host time of the optimizer's spans that stays with the fused implementation, by what runs now. Measured on a
# CPU with torch 2.13, 150 small tensors, AdamW and SGD: 0.16 to 0.21 of single-tensor, 0.27 to 0.33 of foreach.
_HOST_LEFT = {SINGLE: (0.3, 0.2, 0.15), FOREACH: (0.6, 0.35, 0.25)}
# Share of the bandwidth that one streaming kernel reaches: cautious, usual, ideal.
_REACHED = (0.5, 0.7, 1.0)
# Without known bytes: share of the present device time that remains. Adam makes about a dozen passes tensor by tensor, foreach
# about three times as many as the fused one.
_PASSES_LEFT = {SINGLE: (0.6, 0.35, 0.2), FOREACH: (1.0, 0.6, 0.35)}
# Optimizers that have a fused implementation in PyTorch.
_HAS_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")


@rule(
    "unfused-optimizer",
    "KE004",
    "the optimizer is not fused",
    also=("foreach", "fused-adam", "single-tensor-optimizer"),
)
def unfused_optimizer(run: Run) -> Outcome:
    """Judge the optimizer's implementation."""
    steady = steady_of(run)
    optimizer = optimizer_of(run, steady)
    if optimizer is None:
        return Skip("no optimizer step with work of its own is marked in the trace")
    if optimizer.style == FUSED or (optimizer.style == FOREACH and optimizer.name not in _HAS_FUSED):
        return None
    if optimizer.style == FOREACH and not run.is_cpu and optimizer.launches <= ALREADY_ONE:
        return None  # plain SGD is one foreach kernel: there is nothing to merge
    spent = steady.per_step(_device_ns(run, steady, optimizer))
    name = optimizer.name or "optimizer"
    option = "fused=True" if optimizer.name is None or optimizer.name in _HAS_FUSED else "foreach=True"
    launched = "operator" if run.is_cpu else "kernel"
    return Finding(
        summary=f"{optimizer.style} {name} runs {counted(optimizer.launches, launched)} a step and keeps the host busy for "
        f"{steady.share(_host_ns(steady, optimizer))} of it",
        fix=f"torch.optim.{optimizer.name or 'AdamW'}(model.parameters(), ..., {option})",
        detail=_detail(run, optimizer),
        change=_change(run, optimizer),
        evidence=_evidence(run, steady, optimizer, spent),
        effort="setting",
        risk="rounding",
        symptom_of=("host-bound",) if optimizer.style == FOREACH else (),
    )


def _device_ns(run: Run, steady: Steady, optimizer: Optimizer) -> float:
    mine = optimizer.entries & steady.entries(run)
    return float((run.activity.end - run.activity.start)[mine].sum())


def _host_ns(steady: Steady, optimizer: Optimizer) -> float:
    return steady.per_step(float((optimizer.spans & steady.host).total_ns))


def _change(run: Run, optimizer: Optimizer) -> Change:
    mine = optimizer.entries
    by_row = np.searchsorted(optimizer.rows, run.activity.row[mine])
    now = np.bincount(optimizer.group[by_row], run.unrecorded_ns[mine], minlength=optimizer.spans.count)
    # on a CPU the operators are the device work that is replaced; only what lies between them is host time
    host = optimizer.spans - run.activity.busy() if run.is_cpu else optimizer.spans
    ends, style = [], optimizer.style
    for host_left, reached, passes in zip(_HOST_LEFT[style], _REACHED, _PASSES_LEFT[style], strict=True):
        floor = _floor_ns(run, optimizer)
        after = np.minimum(now, floor / reached) if floor is not None else now * passes
        merged = MergeLaunches(optimizer.rows, optimizer.group, after.astype(np.int64), host, host_left)
        ends.append((merged,))
    return Change(*ends)


def _floor_ns(run: Run, optimizer: Optimizer) -> float | None:
    """One step's traffic over the bandwidth, in nanoseconds."""
    if optimizer.bytes is None or not run.peaks.bandwidth:
        return None
    return optimizer.bytes / run.peaks.bandwidth * NS_PER_S


def _detail(run: Run, optimizer: Optimizer) -> str | None:
    floor = _floor_ns(run, optimizer)
    if floor is None:
        return None
    tensors = f"{counted(optimizer.tensors, 'tensor')} in one pass" if optimizer.tensors else "one pass"
    return f"{tensors} over memory would take {time_of(floor)} at full bandwidth"


def _evidence(run: Run, steady: Steady, optimizer: Optimizer, spent: float) -> tuple[Evidence, ...]:
    found = [
        shown("implementation", optimizer.style),
        shown("operations", optimizer.launches, "per step"),
        shown("device time", seconds(spent), "s"),
        shown("host time", seconds(_host_ns(steady, optimizer)), "s"),
    ]
    floor = _floor_ns(run, optimizer)
    if floor is not None and optimizer.bytes is not None:
        found += [shown("least traffic", optimizer.bytes, "bytes"), shown("at full bandwidth", seconds(floor), "s")]
    return tuple(found)
