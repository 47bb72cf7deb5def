"""Activation checkpointing computes activations again in the backward pass although memory may be free.

What it measures
    Forward operators that run inside the backward pass (recomputation), their time, and the memory that stayed free.

Why it costs
    Checkpointing trades a third more computation for memory. Where the memory is there, the trade is a loss.

How the gain is predicted
    A quarter (low), half (mid) or all (high) of the recomputation vanishes; how much fits only a try can tell. With less
    than 10 % of the memory free the advice is withheld.

How to fix
    Checkpoint every other block, or only attention; raise the share until memory is used.

When it is wrong
    The freed time may be worth less than the larger batch that checkpointing allows.

References
    Chen et al., Training deep nets with sublinear memory cost, 2016; Korthikanti et al., selective recomputation, MLSys
    2023.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.counted_ops import RECOMPUTE
from mfu_doctor.analysis.edits import Change, Edit
from mfu_doctor.analysis.ownership import device_ns, first_place, scaled, without_host, work_in
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.phrasing import share, size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Free memory below this share of the device is needed as reserve; checkpointing is then what makes the model fit.
RESERVE = 0.10
_DROPPED = (
    0.25,
    0.5,
    1.0,
)  # share of the recomputation that free memory can replace, where nobody knows the activations


@rule("needless-recompute", "ME003", "activations are computed twice", needs=("shapes",))
def needless_recompute(run: Run) -> Outcome:
    """Judge activation checkpointing against the memory that is free."""
    where = _recomputing(run)
    if not where.count:
        return None
    steady = steady_of(run)
    mask = work_in(run, where)
    spent = device_ns(run, steady, mask)
    if spent <= 0:
        return None
    free = _free_share(run)
    ops = run.launches.op[mask & steady.entries(run)]
    host = without_host(run, where)

    def dropped(part: float) -> tuple[Edit, ...]:
        return (*scaled(run, mask, 1.0 - part), *(host if part == 1.0 else ()))

    return Finding(
        summary=f"Recomputing activations takes {share(spent, steady.step_ns)} of the step",
        fix="# checkpoint fewer blocks: x = checkpoint(block, x) if i % 2 else block(x)",
        detail=_detail(run, free),
        change=Change(*(dropped(part) for part in _DROPPED)),
        evidence=(
            shown("recomputation", seconds(spent), "s"),
            *((shown("free memory", free, "share"),) if free is not None else ()),
        ),
        place=first_place(run, ops[ops >= 0]),
        confidence="modelled" if free is not None else "hint",
        withhold=f"only {share(free, 1.0)} of the memory is free, which checkpointing makes possible"
        if free is not None and free < RESERVE
        else None,
    )


def _recomputing(run: Run) -> Intervals:
    """Host time of runs of recomputed operators on their thread, up to the next operator of another phase."""
    ops, events = run.flops.ops, run.trace.events
    spans: list[tuple[int, int]] = []
    for track in np.unique(events.track[ops.row]):
        mine = np.flatnonzero(events.track[ops.row] == track)
        again = ops.phase[mine] == RECOMPUTE
        edges = np.flatnonzero(
            np.diff(np.concatenate((np.zeros(1, np.int8), again.astype(np.int8), np.zeros(1, np.int8))))
        )
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            spans.append((int(events.start[ops.row[mine[first]]]), int(events.end[ops.row[mine[last - 1]]])))
    return union(np.array([s for s, _ in spans], np.int64), np.array([e for _, e in spans], np.int64))


def _free_share(run: Run) -> float | None:
    memory = run.facts.memory if run.facts else None
    if memory is None or not memory.total_bytes or memory.reserved_peak_bytes is None:
        return None
    return 1.0 - memory.reserved_peak_bytes / memory.total_bytes


def _detail(run: Run, free: float | None) -> str:
    total = next((d.memory_bytes for d in run.trace.devices if d.index == run.activity.device), None)
    if free is not None:
        return f"{share(free, 1.0)} of the device's memory was never used"
    return "whether memory is free was not recorded" + (f"; the device has {size_of(total)}" if total else "")
