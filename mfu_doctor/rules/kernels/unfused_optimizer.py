"""The optimizer updates one tensor, or runs one operation, at a time. One fused kernel could update all tensors.

What it measures
    Operations inside Optimizer.step events, and which implementation the optimizer uses: single-tensor (a few operators per
    parameter), foreach (one kernel per operation over many tensors) or fused (one kernel for everything). The forward and
    backward passes of a closure (`optimizer.step(closure)`) are not counted.

Why it costs
    A single-tensor AdamW launches about a dozen small kernels per parameter. And each operation reads and writes all of the state
    again, although once would be enough.

How the gain is predicted
    The optimizer becomes one operation per step, and its CPU time becomes shorter. The lower bound of this operation is its
    memory traffic (parameter, gradient and state are read once, parameter and state are written once) / bandwidth.
    Low: twice the lower bound. 30 % of the CPU time of a single-tensor step remains (60 % of a foreach step).
    Mid: the lower bound at 70 % of the bandwidth. 20 % of the CPU time remains (35 % of a foreach step).
    High: the lower bound itself. 15 % of the CPU time remains (25 % of a foreach step).
    If bytes or bandwidth are unknown, a share of the device time remains: 60, 35 and 20 % (low, mid, high) for single-tensor,
    100, 60 and 35 % for foreach.
    If the class has only foreach: its operations still read and write all of the state one after another. Of a single-tensor
    step 100, 80 and 60 % of the device time and 60, 45 and 30 % of the CPU time remain.

How to fix
    torch.optim.AdamW(model.parameters(), lr=..., fused=True), or foreach=True on a GPU if there is no fused implementation. On
    a CPU fused needs torch >= 2.4. For an optimizer that is not from torch.optim: use the class of torch.optim, or
    torch._foreach_ operations. Only an option that the class has in this version of PyTorch is advised.

When it is wrong
    Optimizers that have neither option (LBFGS, SparseAdam, Muon), and those with sparse gradients, are not judged. With several
    small parameter groups there is one kernel launch per group.
    fused=True rounds in another order, so results differ in the last bits.

References
    https://pytorch.org/docs/stable/optim.html#algorithms
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.optimizer import FOREACH, FUSED, SINGLE, Optimizer, optimizer_of
from mfu_doctor.analysis.evidence.optimizer_options import remedy_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.replay.edits import Change, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_S, seconds

# Up to this many operations per step leave nothing to merge: one updates all parameters (and a second one the last tensors), or
# the model has no more tensors.
ALREADY_FEW = 2.0
# Share of the host time of the optimizer's spans that remains with the fused implementation, by what runs now. Measured on a
# CPU with torch 2.13, 150 small tensors, AdamW and SGD: 0.16 to 0.21 of single-tensor, 0.27 to 0.33 of foreach.
_HOST_LEFT = {SINGLE: (0.3, 0.2, 0.15), FOREACH: (0.6, 0.35, 0.25)}
# Share of the bandwidth that one streaming kernel reaches: low, mid, high.
_REACHED = (0.5, 0.7, 1.0)
# Without known bytes: share of the present device time that remains. Adam makes about a dozen passes tensor by tensor, foreach
# about three times as many as the fused one.
_PASSES_LEFT = {SINGLE: (0.6, 0.35, 0.2), FOREACH: (1.0, 0.6, 0.35)}
# With foreach instead of single-tensor, on a GPU: the same passes in few launches. An estimate, not a measurement.
_FOREACH_HOST_LEFT = (0.6, 0.45, 0.3)
_FOREACH_PASSES_LEFT = (1.0, 0.8, 0.6)


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
        return Skip("the trace has no Optimizer.step event that contains kernels or operators")
    if optimizer.style == FUSED or optimizer.launches <= ALREADY_FEW:
        return None
    remedy = remedy_of(run, optimizer)
    if remedy is None:
        return None
    spent = steady.per_step(_device_ns(run, steady, optimizer))
    name = optimizer.name or "optimizer"
    launched = "operator" if run.is_cpu else "kernel"
    return Finding(
        summary=f"{optimizer.style} {name} runs {counted(optimizer.launches, launched)} per step and takes "
        f"{steady.share(_host_ns(steady, optimizer))} of the step on the CPU",
        fix=remedy.fix,
        detail=_detail(run, optimizer),
        decides=Ends(low="it takes twice as long", high="the fused step moves its data once, at full bandwidth"),
        change=_change(run, optimizer, remedy.target),
        evidence=_evidence(run, steady, optimizer, spent),
        effort=remedy.effort,
        risk="rounding",
        place=first_place(run, optimizer.rows) if remedy.is_own else None,
        symptom_of=("host-bound",) if optimizer.style == FOREACH else (),
    )


def _device_ns(run: Run, steady: Steady, optimizer: Optimizer) -> float:
    mine = optimizer.entries & steady.entries(run)
    return float((run.activity.end - run.activity.start)[mine].sum())


def _host_ns(steady: Steady, optimizer: Optimizer) -> float:
    return steady.host_ns(optimizer.spans)


def _change(run: Run, optimizer: Optimizer, target: str) -> Change:
    mine = optimizer.entries
    by_row = np.searchsorted(optimizer.rows, run.activity.row[mine])
    now = np.bincount(optimizer.group[by_row], run.unrecorded_ns[mine], minlength=optimizer.spans.count)
    # on a CPU the operators are the device work that is replaced; only what lies between them is host time
    host = optimizer.spans - run.activity.busy() if run.is_cpu else optimizer.spans
    ends, style = [], optimizer.style
    floor = _floor_ns(run, optimizer) if target == FUSED else None
    host_lefts = _HOST_LEFT[style] if target == FUSED else _FOREACH_HOST_LEFT
    passes_left = _PASSES_LEFT[style] if target == FUSED else _FOREACH_PASSES_LEFT
    for host_left, reached, passes in zip(host_lefts, _REACHED, passes_left, strict=True):
        after = np.minimum(now, floor / reached) if floor is not None else now * passes
        merged = MergeLaunches(optimizer.rows, optimizer.group, after.astype(np.int64), host, host_left)
        ends.append((merged,))
    return Change(*ends)


def _floor_ns(run: Run, optimizer: Optimizer) -> float | None:
    """One step's traffic over the bandwidth, in nanoseconds."""
    if optimizer.bytes is None or not run.peaks.bandwidth:
        return None
    return optimizer.bytes / max(run.peaks.bandwidth, _reached_bandwidth(run, optimizer)) * NS_PER_S


def _reached_bandwidth(run: Run, optimizer: Optimizer) -> float:
    """Bytes per second that the optimizer's operators reach on a CPU: what was measured on a busy machine can be less."""
    if not run.is_cpu:
        return 0.0
    moved = np.where(optimizer.entries, run.least_bytes, np.nan)
    told = ~np.isnan(moved)
    spent = float((run.activity.end - run.activity.start)[told].sum())
    return float(moved[told].sum()) / spent * NS_PER_S if spent else 0.0


def _detail(run: Run, optimizer: Optimizer) -> str | None:
    floor = _floor_ns(run, optimizer)
    if floor is None:
        return None
    tensors = counted(optimizer.tensors, "tensor") if optimizer.tensors else "all tensors"
    return f"reading and writing {tensors} once takes {time_of(floor)} at full memory bandwidth"


def _evidence(run: Run, steady: Steady, optimizer: Optimizer, spent: float) -> tuple[Evidence, ...]:
    found = [
        shown("implementation", optimizer.style),
        shown("operations", optimizer.launches, "per step"),
        shown("device time", seconds(spent), "s"),
        shown("CPU time", seconds(_host_ns(steady, optimizer)), "s"),
    ]
    floor = _floor_ns(run, optimizer)
    if floor is not None and optimizer.bytes is not None:
        found += [
            shown("minimum memory traffic", optimizer.bytes, "bytes"),
            shown("at full bandwidth", seconds(floor), "s"),
        ]
    return tuple(found)
