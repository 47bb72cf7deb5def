"""Structural counts per step: syncs, launches, copies, fp32 matmuls and others. They are the same on a noisy machine.

A step time on a shared CI runner varies by a quarter; the number of syncs per step does not. These counts find the commit that
adds a `.item()` on any runner, without a GPU. So a check can be strict about them even if it is lenient about time.

A launch here is a call of the host. Rules and kernel tables count device operations, of which a call can start none or many.

Counts are medians over the steady steps (something done every hundredth step does not change the check). Recompilations are a
mean, so that each one counts. On a CPU-only trace the operators are counted in place of what they would do on a device. A count
that the trace does not contain is left out, never 0.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.vocabulary import (
    FETCH,
    HOST_TO_DEVICE_PAGEABLE,
    LABEL,
    SYNCING_OP,
    ids_matching,
    rows_matching,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Category

Rows = npt.NDArray[np.int64]

SYNCS, LAUNCHES, PAGEABLE_COPIES, FP32_MATMULS = "syncs", "launches", "pageable_copies", "fp32_matmuls"
RECOMPILATIONS, LOADER_WORKERS = "recompilations", "loader_workers"
UNFUSED_OPTIMIZER_KERNELS, COLLECTIVES = "unfused_optimizer_kernels", "collectives"

_COMPILED = re.compile(r"_compile\.compile_inner")  # one per frame that Dynamo compiles, torch >= 2.2
_FUSED = re.compile(r"multi_tensor_apply|fused|foreach|FusedAdam", re.IGNORECASE)
_ISSUED_COLLECTIVE = re.compile(r"^(c10d|_c10d_functional)::(?!_?wait)")
_RUN_COLLECTIVE = re.compile(r"^(gloo|mpi|ucc):(?!barrier)")
_SINGLE_PROCESS = re.compile(r"_SingleProcessDataLoaderIter")
_MATMUL = re.compile(r"^aten::(mm|addmm|bmm|baddbmm|mv|addmv)$")
_FP32_TYPES = frozenset({"float", "float32"})


def counters_of(run: Run) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """Counts per step, and the places in the user's code behind some of them, most frequent first.

    Args:
        run: the run.

    Returns:
        Counts by name; `loader_workers` is the number of workers. And file:line by the same names, if known.
    """
    rows: dict[str, Rows | None] = {
        SYNCS: _syncs(run),
        LAUNCHES: _launches(run),
        PAGEABLE_COPIES: _pageable(run),
        FP32_MATMULS: _fp32_matmuls(run),
        UNFUSED_OPTIMIZER_KERNELS: _unfused(run),
        COLLECTIVES: _collectives(run),
    }
    counts = {name: _per_step(run, found) for name, found in rows.items() if found is not None}
    counts[RECOMPILATIONS] = _recompilations(run)
    workers = _loader_workers(run)
    if workers is not None:
        counts[LOADER_WORKERS] = float(workers)
    listed = {name: _places(run, rows[name]) for name in (SYNCS, PAGEABLE_COPIES, FP32_MATMULS)}
    return counts, {name: places for name, places in listed.items() if places}


def _step_of(run: Run, time: Rows) -> Rows:
    """Index of the steady step in whose host-side window each time lies, or -1."""
    steps = run.steps
    index = np.searchsorted(steps.host_start, time, side="right").astype(np.int64) - 1
    held = np.maximum(index, 0)
    inside = (index >= 0) & (time < steps.host_end[held]) & steps.steady[held]
    return np.where(inside, index, -1)


def _in_steps(run: Run, rows: Rows) -> Rows:
    return rows[_step_of(run, run.trace.events.start[rows]) >= 0]


def _per_step(run: Run, rows: Rows) -> float:
    """Median number of these host rows over the steady steps."""
    index = _step_of(run, run.trace.events.start[rows])
    counts = np.bincount(index[index >= 0], minlength=run.steps.count)
    return float(np.median(counts[run.steps.steady]))


def _inside(run: Run, rows: Rows, pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    """Whether each row has an ancestor on its thread whose name matches."""
    named = run.trace.named(ids_matching(run.trace, pattern))
    found = np.zeros(len(rows), np.bool_)
    up = run.ops.parent[rows].astype(np.int64)
    while (up >= 0).any():
        found |= (up >= 0) & named[np.maximum(up, 0)]
        up = np.where(up >= 0, run.ops.parent[np.maximum(up, 0)], -1)
    return found


def _by_optimizer(run: Run, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether each host row is the optimizer's own work."""
    return run.optimizer_steps.own.contains(run.trace.events.start[rows])


def _syncs(run: Run) -> Rows:
    """Calls that wait for the device; on a CPU the outermost operators that would.

    Optimizers read their own step counters and loaders their samples: those are on the CPU in any run and stop nothing.
    """
    if not run.is_cpu:
        return _in_steps(run, run.host.blocking_rows)
    rows = _in_steps(run, rows_matching(run.trace, SYNCING_OP, run.trace.rows(Category.CPU_OP)))
    excused = _inside(run, rows, SYNCING_OP) | _by_optimizer(run, rows) | _inside(run, rows, FETCH)
    return rows[~excused]


def _launches(run: Run) -> Rows:
    """Calls that put work on the device (a graph launch is one); on a CPU the operators that call no other."""
    if not run.is_cpu:
        return distinct(run.launches.call[run.launches.call >= 0])
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[~np.isin(run.trace.events.name[rows], ids_matching(run.trace, LABEL))]
    leaf = ~np.isin(rows, run.ops.parent[rows])
    rows = rows[leaf]
    return rows[~_inside(run, rows, FETCH)]


def _issuing_rows(run: Run, entries: npt.NDArray[np.bool_]) -> Rows:
    """Host rows that issued these entries of the activity table: the launch call, else the operator, else itself."""
    call, op = run.launches.call[entries], run.launches.op[entries]
    return np.where(call >= 0, call, np.where(op >= 0, op, run.activity.row[entries]))


def _pageable(run: Run) -> Rows | None:
    """Copies from pageable host memory (the other way shows as a sync); a CPU-only trace has no copies to analyse."""
    if run.is_cpu:
        return None
    names = run.trace.events.name[run.activity.row]
    return _issuing_rows(run, np.isin(names, ids_matching(run.trace, HOST_TO_DEVICE_PAGEABLE)))


def _fp32_matmuls(run: Run) -> Rows | None:
    """Matmuls with float32 inputs, by operator; None if no matmul has its types recorded."""
    rows = rows_matching(run.trace, _MATMUL, run.trace.rows(Category.CPU_OP))
    types = [args.types if (args := run.trace.args_of(row)) is not None else None for row in rows.tolist()]
    if not len(rows) or all(kind is None for kind in types):
        return None
    return rows[np.array([kind is not None and not _FP32_TYPES.isdisjoint(kind) for kind in types], np.bool_)]


def _unfused(run: Run) -> Rows | None:
    """Device work issued one tensor at a time inside the optimizer; None if no optimizer step is marked."""
    if not len(run.optimizer_steps.marks):
        return None
    if run.is_cpu:
        rows = _launches(run)
        return rows[_by_optimizer(run, rows) & ~_inside(run, rows, _FUSED) & ~_named(run, rows, _FUSED)]
    alone = ~_named(run, run.activity.row, _FUSED) & (run.activity.kind != COMMUNICATION)
    rows = _issuing_rows(run, alone)
    return rows[_by_optimizer(run, rows) & ~_inside(run, rows, _FUSED)]


def _named(run: Run, rows: Rows, pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    return np.isin(run.trace.events.name[rows], ids_matching(run.trace, pattern))


def _collectives(run: Run) -> Rows:
    """Collectives: their kernels on a device; on a CPU the calls that issue them, or the backend's own marks."""
    if not run.is_cpu:
        return _issuing_rows(run, run.activity.kind == COMMUNICATION)
    hosts = run.trace.rows(Category.CPU_OP, Category.ANNOTATION)
    issued, ran = rows_matching(run.trace, _ISSUED_COLLECTIVE, hosts), rows_matching(run.trace, _RUN_COLLECTIVE, hosts)
    return issued if len(issued) >= len(ran) else ran


def _recompilations(run: Run) -> float:
    """Compilations that started in the steady steps, per step: in a settled run every one is a recompilation."""
    rows = rows_matching(run.trace, _COMPILED, run.trace.rows(Category.CPU_OP, Category.ANNOTATION))
    starts = run.trace.events.start[rows] if len(rows) else run.host.compile.start
    return int((_step_of(run, starts) >= 0).sum()) / int(run.steps.steady.sum())


def _loader_workers(run: Run) -> int | None:
    """Workers of the loader that was fetched from most; a trace without metadata only shows that there are none."""
    if run.facts is not None and run.facts.loaders:
        return max(run.facts.loaders, key=lambda loader: loader.fetches).num_workers
    single = _named(run, run.host.fetch_rows, _SINGLE_PROCESS)
    return 0 if len(single) and bool(single.all()) else None


def _places(run: Run, rows: Rows | None) -> tuple[str, ...]:
    """Places of the rows in steady steps, most frequent first."""
    if rows is None or not len(rows):
        return ()
    known = Counter(place for place in run.places(_in_steps(run, rows)) if place is not None)
    return tuple(place for place, _ in known.most_common())
