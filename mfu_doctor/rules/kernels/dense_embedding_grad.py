"""The gradient of an embedding is written for every row of the table, although a batch uses only a few rows.

What it measures
    The device time of embedding_dense_backward, separately for writing zeros to the whole table and for the rows of the batch.
    Also the optimizer time for tensors with the shape of the table.

Why it costs
    A table of a million rows gets a gradient of a million rows. Nearly all of them are zero. The optimizer then reads and
    writes every row of the table and of its state.

How the gain is predicted
    The time of writing zeros and the optimizer time for the table are multiplied by the share of rows in the batch and by a
    factor (at most 1 together), because sparse gradients sort and merge indices and access rows one by one. If a batch uses a
    third of the rows or more, nothing is saved.
    The optimizer also keeps a fixed time for each table: 120 us for SparseAdam, which has no fused variant, 15 us for SGD.
    Low: the factor is 10.
    Mid: it is 5.
    High: it is 3.
    In a CPU-only run zero_grad also returns the memory of the gradient to the system. The mid and high estimates remove this
    time as well. Without shapes only the zeros count.

How to fix
    Use nn.Embedding(sparse=True) with torch.optim.SparseAdam instead of Adam. SGD supports sparse gradients without a change.
    With several indices per sample, use nn.EmbeddingBag(sparse=True).

When it is wrong
    The rule is wrong if the table shares its weight with the output layer: then the gradient is dense anyway. If a matmul uses
    a tensor with the shape of the table, the low estimate is therefore 0. SparseAdam does not update rows without a gradient:
    they also get no momentum and no weight decay, which can change convergence. Two tables of one size count as one table that
    is used twice: then the prediction is too low.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Embedding.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, scaled
from mfu_doctor.analysis.evidence.embeddings import DenseTables, dense_tables
from mfu_doctor.analysis.evidence.optimizer import optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, spans, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Cost of a row in a sparse update, relative to a row in a dense one: the index is sorted, rows are gathered, merged and
# scattered. Low, mid, high.
_PER_TOUCHED_ROW = (10.0, 5.0, 3.0)
# What the update of one table takes at least, however few rows it touches (torch 2.13 on a CPU): SparseAdam calls 228 operators
# for each table, one after another, and has no fused or foreach variant; SGD adds the rows at once.
_LEAST_UPDATE_NS = {"SGD": 15_000}
_LEAST_SPARSE_ADAM_NS = 120_000
_ZERO_GRAD = re.compile(r"^Optimizer\.zero_grad#")
_TAKES_SPARSE = ("SGD", "Adagrad")


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
    if tables is None:
        return None
    backward = device_ns(run, steady, tables.zeroing | tables.adding)
    updating = _updating_ns(run, steady, tables)
    if backward + updating < WORTH_SHARE * steady.step_ns:
        return None
    return Finding(
        summary=f"Dense embedding gradients take {steady.share(backward + updating)} of the step, "
        "including their optimizer update",
        fix=_fix(run, steady),
        detail=_detail(tables),
        decides=Ends(low="it costs 10 times as much", high="a sparse row costs 3 times a dense one"),
        change=_change(run, steady, tables),
        evidence=(
            shown("gradient", seconds(backward), "s"),
            shown("writing zeros", seconds(device_ns(run, steady, tables.zeroing)), "s"),
            shown("optimizer on the table", seconds(updating), "s"),
            *([shown("rows with a gradient", tables.touched, "share")] if tables.tables else []),
        ),
        place=run.places(tables.calls[:1])[0],
        risk="convergence",
        effort="refactor",
        confidence="modelled" if tables.tables and not tables.tied else "hint",
    )


def _updating_ns(run: Run, steady: Steady, tables: DenseTables) -> float:
    inside = np.isin(run.activity.row, tables.optimizer_rows) & steady.entries(run)
    at = np.searchsorted(tables.optimizer_rows, run.activity.row[inside])
    length = (run.activity.end - run.activity.start)[inside]
    return steady.per_step(float((length * tables.in_tables[at]).sum()))


def _change(run: Run, steady: Steady, tables: DenseTables) -> Change:
    freeing = _freeing(run, steady, tables)
    least = _least_update(run, steady, tables)

    def end(which: int) -> tuple[Edit, ...]:
        left = min(_PER_TOUCHED_ROW[which] * tables.touched, 1.0)
        zeros = scaled(run, tables.zeroing, left if tables.tables else 0.0)
        saved = tables.in_tables * (1.0 - max(left, least))
        update = (ScaleDevice(tables.optimizer_rows, 1.0 - saved),) if len(tables.optimizer_rows) else ()
        return (*zeros, *update, *(freeing if which else ()))

    return Change(() if tables.tied else end(0), end(1), end(2))


def _least_update(run: Run, steady: Steady, tables: DenseTables) -> float:
    """The part of the update that a sparse one takes even for a single row of each table, at most 1."""
    updating, optimizer = _updating_ns(run, steady, tables), optimizer_of(run, steady)
    if updating <= 0 or optimizer is None:
        return 0.0
    lookups = steady.per_step(len(steady.issued(run, tables.calls)))
    least = _LEAST_UPDATE_NS.get(optimizer.name or "", _LEAST_SPARSE_ADAM_NS)
    return float(min(lookups * least / updating, 1.0))


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
    if optimizer is not None and optimizer.name in _TAKES_SPARSE:
        return "nn.Embedding(..., sparse=True)"
    return "nn.Embedding(..., sparse=True)  # with torch.optim.SparseAdam for its weight"


def _detail(tables: DenseTables) -> str:
    if tables.tied:
        return "if the output layer shares the table's weight, the gradient is dense anyway, and this saves nothing"
    if not tables.tables:
        return "only the rows of this batch have a gradient; with sparse gradients the optimizer skips the other rows"
    rows, width, batch = max(tables.tables, key=lambda t: t[0] * t[1])
    return f"a batch uses {number(batch)} of {number(rows)} rows (width {number(width)}); the optimizer updates all of them"
