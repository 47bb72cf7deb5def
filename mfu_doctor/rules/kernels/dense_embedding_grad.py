"""The gradient of an embedding is written for every row of the table, although a batch uses only a few rows.

What it measures
    The device time of embedding_dense_backward, separately for writing zeros to the whole table and for the rows of the batch.
    Also the optimizer time for tensors with the shape of the table, and adding whole gradients of a table that is looked up
    several times in a step.

Why it costs
    A table of a million rows gets a gradient of a million rows. Nearly all of them are zero. The optimizer then reads and
    writes every row of the table and of its state.

How the gain is predicted
    All of this time goes. A sparse update takes its place: it sorts and merges the rows of the batch and accesses each of them
    in the table and in its state. What accessing rows one by one takes is seen in this run: adding them up. Of that an update is
    this multiple (low, mid, high), measured for widths of 16 to 256 with one thread of an AMD EPYC and torch 2.13:
    SGD 0.6, 0.4, 0.25; Adagrad 5, 3.5, 2.2; SparseAdam 8.5, 5.5, 3.4.
    And a fixed time for each lookup of a table: 15 us for SGD, 120 us for Adagrad and for SparseAdam, which has no fused variant.
    In a CPU-only run zero_grad also returns the memory of the gradient to the system. The mid and high estimates remove this
    time as well. Without shapes only the zeros count.

How to fix
    Use nn.Embedding(sparse=True) with torch.optim.SparseAdam instead of Adam. SGD supports sparse gradients without a change.
    With several indices per sample, use nn.EmbeddingBag(sparse=True).

When it is wrong
    The rule is wrong if the table shares its weight with the output layer: then the gradient is dense anyway. If a matmul uses
    a tensor with the shape of the table, the low estimate is therefore 0. SparseAdam does not update rows without a gradient:
    they also get no momentum and no weight decay, which can change convergence. Two tables of one size count as one table that
    is used twice: then the prediction is too low. A batch that has indices for more than a third of the rows is no finding.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Embedding.html
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, scaled
from mfu_doctor.analysis.evidence.embeddings import DenseTables, dense_tables
from mfu_doctor.analysis.evidence.optimizer import optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, spans, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Risk, rule, shown
from mfu_doctor.units import seconds


class _SparseUpdate(Struct, frozen=True):
    """What a sparse update of one table takes.

    Attributes:
        rows: as a multiple of what this run takes to add up the same rows; low, mid, high. See the docstring of the module.
        least_ns: however few rows it touches (torch 2.13 on a CPU).
    """

    rows: tuple[float, float, float]
    least_ns: float


_UPDATES = {
    "SGD": _SparseUpdate((0.6, 0.4, 0.25), 15_000),  # adds the rows at once
    "Adagrad": _SparseUpdate((5.0, 3.5, 2.2), 120_000),
}
# It calls 228 operators for each table, one after another, and has no fused or foreach variant.
_SPARSE_ADAM = _SparseUpdate((8.5, 5.5, 3.4), 120_000)
_MOST_TOUCHED = 1 / 3  # of the rows: sparse gradients of more were measured to cost as much as dense ones
_ZERO_GRAD = re.compile(r"^Optimizer\.zero_grad#")


@rule(
    "dense-embedding-grad",
    "KE013",
    "embedding gradients are written for every row of the table",
    also=("sparse-embedding", "embedding-backward"),
)
def dense_embedding_grad(run: Run) -> Outcome:
    """Judge dense gradients of embeddings."""
    steady = steady_of(run)
    tables = dense_tables(run, steady)
    if tables is None or (tables.tables and tables.touched > _MOST_TOUCHED):
        return None
    backward = device_ns(run, steady, tables.zeroing | tables.adding | tables.summing)
    updating = _updating_ns(run, steady, tables)
    if backward + updating < WORTH_SHARE * steady.step_ns:
        return None
    return Finding(
        summary=f"Dense embedding gradients take {steady.share(backward + updating)} of the step, "
        "including their optimizer update",
        fix=_fix(run, steady),
        detail=_detail(tables),
        decides=Ends(low="they take more than twice as long", high="sparse updates of these rows are quick"),
        change=_change(run, steady, tables),
        evidence=(
            shown("gradient", seconds(backward), "s"),
            shown("writing zeros", seconds(device_ns(run, steady, tables.zeroing)), "s"),
            shown("optimizer on the table", seconds(updating), "s"),
            *([shown("rows with a gradient", tables.touched, "share")] if tables.tables else []),
        ),
        place=run.places(tables.calls[:1])[0],
        risk=_risk(run, steady),
        effort="refactor",
        confidence="modelled" if tables.tables and not tables.tied else "hint",
    )


def _risk(run: Run, steady: Steady) -> Risk:
    """What sparse gradients change apart from the time.

    SparseAdam leaves rows without a gradient as they are, which Adam does not. The other optimizers that take sparse gradients
    leave them with dense ones, too, unless they decay weights.
    """
    optimizer = optimizer_of(run, steady)
    return "rounding" if optimizer is not None and optimizer.name in _UPDATES else "convergence"


def _updating_ns(run: Run, steady: Steady, tables: DenseTables) -> float:
    inside = np.isin(run.activity.row, tables.optimizer_rows) & steady.entries(run)
    at = np.searchsorted(tables.optimizer_rows, run.activity.row[inside])
    length = (run.activity.end - run.activity.start)[inside]
    return steady.per_step(float((length * tables.in_tables[at]).sum()))


def _change(run: Run, steady: Steady, tables: DenseTables) -> Change:
    if not tables.tables:  # nothing tells of the rows: the zeros alone
        return Change.exactly(*scaled(run, tables.zeroing, 0.0))
    backward, freeing = tables.zeroing | tables.adding | tables.summing, _freeing(run, steady, tables)
    now = device_ns(run, steady, backward) + _updating_ns(run, steady, tables)
    ends = []
    for after in _sparse_ns(run, steady, tables):
        left = min(after / now, 1.0)
        update = ScaleDevice(tables.optimizer_rows, 1.0 - tables.in_tables * (1.0 - left))
        ends.append((*scaled(run, backward, left), *((update,) if len(tables.optimizer_rows) else ())))
    low, mid, high = ends
    return Change(() if tables.tied else low, (*mid, *freeing), (*high, *freeing))


def _sparse_ns(run: Run, steady: Steady, tables: DenseTables) -> tuple[float, float, float]:
    """What sparse gradients and their update take per step, at the three ends."""
    optimizer = optimizer_of(run, steady)
    update = _UPDATES.get(optimizer.name or "", _SPARSE_ADAM) if optimizer is not None else _SPARSE_ADAM
    least = tables.lookups * update.least_ns if len(tables.optimizer_rows) else 0.0
    adding = device_ns(run, steady, tables.adding)
    low, mid, high = (max(multiple * adding, least) for multiple in update.rows)
    return low, mid, high


def _freeing(run: Run, steady: Steady, tables: DenseTables) -> tuple[Edit, ...]:
    """On a CPU: the share of zero_grad's time in which the memory of these gradients goes back to the system."""
    optimizer = optimizer_of(run, steady)
    where = spans(run, calls_of(run, _ZERO_GRAD)) - run.activity.busy()
    facts = run.facts.optimizers if run.facts is not None else ()
    total = sum(o.elements or 0 for o in facts)
    if not run.is_cpu or optimizer is None or not where.count or not total:
        return ()
    return (ScaleHost(where, 1.0 - min(tables.elements / total, 1.0)),)


def _fix(run: Run, steady: Steady) -> str:
    optimizer = optimizer_of(run, steady)
    if optimizer is not None and optimizer.name in _UPDATES:
        return "nn.Embedding(..., sparse=True)"
    return "nn.Embedding(..., sparse=True)  # with torch.optim.SparseAdam for its weight"


def _detail(tables: DenseTables) -> str:
    if tables.tied:
        return "if the output layer shares the table's weight, the gradient is dense anyway, and this saves nothing"
    if not tables.tables:
        return "only the rows of this batch have a gradient; with sparse gradients the optimizer skips the other rows"
    rows, width, batch = max(tables.tables, key=lambda t: t[0] * t[1])
    used = number(min(batch, rows))
    return f"a batch uses {used} of {number(rows)} rows (width {number(width)}); the optimizer updates all of them"
