"""A step accumulates gradients of batches so small that the step is mostly the launching of operators.

What it measures
    Batches per optimizer step, each with a forward and a backward pass of its own, and what these passes would take as fewer ones
    of larger batches.

Why it costs
    Each pass launches all operators anew, reads all weights and adds to all gradients. A small batch does not fill the device
    meanwhile. Accumulation is there for memory: without need for it, it only costs time.

How the gain is predicted
    Passes become as many times fewer as memory allows (the peak of the allocator against the memory of the device; on a CPU
    one pass). An operator is launched once for those that become one, and computes and moves what they did together, at the
    rates of the device. Weights are read and gradients written once. Loading and the optimizer stay as they are.
    Low: half of these rates, and a quarter of everything stays.
    Mid: 70 % of these rates.
    High: these rates.

How to fix
    A batch size that is larger by the factor by which fewer batches are accumulated: the optimizer sees the same samples. A loss
    that the program divides by the number of batches is divided by the new one.

When it is wrong
    The rule is wrong if the larger batch does not fit into memory, if samples have different lengths that would be padded, or if
    a batch norm is to see small batches.

References
    https://huggingface.co/docs/transformers/perf_train_gpu_one#gradient-accumulation
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, spans_of_rows
from mfu_doctor.analysis.evidence.backward import in_backward, node_calls
from mfu_doctor.analysis.evidence.batched_loops import batched
from mfu_doctor.analysis.evidence.device_memory import USABLE_SHARE, device_memory
from mfu_doctor.analysis.evidence.loop_kinds import SmallOps
from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady, steady_of
from mfu_doctor.analysis.names.autograd import ROOT
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_SPAN, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import members
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

_BATCH_NORM = re.compile(r"^aten::(_?native_|cudnn_|miopen_)?batch_norm$")


@rule(
    "small-microbatches",
    "HO041",
    "gradients of very small batches are accumulated",
    needs=(Need.FACTS,),
    also=("gradient-accumulation-steps", "micro-batch-size", "accumulate-grad-batches"),
)
def small_microbatches(run: Run) -> Outcome:
    """Judge what accumulation costs."""
    facts, steady = run.facts, steady_of(run)
    count = round(facts.micro_batches or 1) if facts is not None else 1
    most = min(_growth(run), count)
    fewer = max((n for n in range(1, most + 1) if count % n == 0), default=1)
    passes, roots = _passes(run, steady), _roots(run, steady)
    if (
        fewer < 2
        or not len(passes)
        or round(steady.per_step(len(roots))) != count
        or not _are_alike(run, passes, roots)
    ):
        return None
    step = Loop(("forward", "backward"), fewer, passes, int(passes.min()), int(passes.max()), backward=True)
    inside = _inside(run, steady, passes)
    change = batched(run, [SmallOps(step, "backward-per-part", inside, passes)])
    size = facts.loaders[0].batch_size if facts is not None and facts.loaders else None
    has_norm = bool(len(calls_of(run, _BATCH_NORM)))
    return Finding(
        summary=f"Each step accumulates {counted(count, 'batch')}, each with all launches, weights and gradients anew",
        fix=_fix(size, count, fewer),
        detail="the optimizer sees the same samples"
        + ("; a batch norm sees more of them at once" if has_norm else "")
        + ("" if device_memory(run) else "; if the larger batch fits into memory"),
        decides=Ends(
            low="a quarter of these passes' time stays", high="large operators reach the full rates of the device"
        ),
        change=change,
        evidence=(
            shown("batches", count, "per step"),
            shown("forward and backward", seconds(steady.host_ns(inside)), "s"),
        ),
        effort="line",
        risk="convergence" if has_norm else "rounding",
    )


def _growth(run: Run) -> int:
    """How many batches may become one: as many as fit if all that is used grew with them; without a limit if that is unknown."""
    memory = device_memory(run)
    if memory is None:
        return 1 << 30 if run.is_cpu else 1
    return int(USABLE_SHARE / memory.used)


def _roots(run: Run, steady: Steady) -> Rows:
    rows = rows_matching(run.trace, ROOT, run.trace.rows(Category.CPU_OP))
    rows = rows[~in_backward(run, rows)]
    return steady.issued(run, rows)


def _passes(run: Run, steady: Steady) -> Rows:
    """The engine's calls of nodes in steady steps."""
    return steady.issued(run, node_calls(run, run.trace.rows(Category.CPU_OP)))


def _inside(run: Run, steady: Steady, nodes: Rows) -> Intervals:
    """Host time of forward and backward: from the begin of each step to the end of its last pass, without loading and updates."""
    starts, ends = steady.edges
    end = run.trace.events.end[nodes]
    last = np.array([end[(end > a) & (end <= b)].max(initial=a) for a, b in zip(starts, ends, strict=True)], np.int64)
    updates = calls_of(run, OPTIMIZER_SPAN)
    return Intervals(starts, last) - spans_of_rows(run, np.sort(np.concatenate((run.host.fetch_rows, updates))))


def _are_alike(run: Run, passes: Rows, roots: Rows) -> bool:
    """Whether all passes run the same nodes, and all begin with one loss: two losses of a step are no two batches of it."""
    events = run.trace.events
    of = np.searchsorted(np.sort(events.start[roots]), events.start[passes])
    nodes = [tuple(np.sort(events.name[passes[mine]]).tolist()) for mine in members(of - 1, len(roots))]
    return bool((of > 0).all()) and len(set(nodes)) == 1


def _fix(size: int | None, count: int, fewer: int) -> str:
    """A line for a loop of the program's own; `trainer_arguments` knows it."""
    left = count // fewer
    larger = f"{size * fewer}" if size else f"{fewer} * batch_size"
    after = f"each batch; no loss / {count}" if left == 1 else f"{left} batches; loss / {left}, not / {count}"
    return f"DataLoader(..., batch_size={larger})  # and optimizer.step() after {after}"
