"""Pointwise operations run one after another, and each of them reads and writes memory.

What it measures
    Sequences of pointwise kernels on a stream (or operators on a CPU thread) from at least three calls, outside the optimizer,
    and their time. What one call of the library is made of (a dropout, a GRU on a CPU) counts as one, in backward too.

Why it costs
    A pointwise kernel spends its time on reading and writing memory. A fused kernel reads the inputs and writes the result once.

How the gain is predicted
    Each chain becomes one operation. It takes as long as the longest operation of the chain, plus a part of the time of the
    others:
    Low: 50 % of it.
    Mid: 25 % of it. The launches of the other operations are removed.
    High: nothing. The launches of the other operations are removed.
    In a CPU-only run with a measured memory bandwidth, an operator is spared its pass over memory: its traffic at that bandwidth,
    times what long passes of this run take above it. The rest of its time is dispatch, or in tanh, exp and similar operators
    arithmetic, and remains.

How to fix
    Use torch.compile on the function that contains them, or a fused implementation (F.gelu, F.layer_norm,
    F.scaled_dot_product_attention). Where the function is a library's, it is a choice and no fault of the program: some libraries
    have an option for a fused one (an activation named gelu_pytorch_tanh), else torch.compile(model).

When it is wrong
    The rule promises too much if operations that follow each other are independent, or if other operators need their results:
    then the results must still be written to memory.

References
    Snider and Liang, Operator fusion in XLA, 2023.
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.broadcast_products import broadcast_products_of
from mfu_doctor.analysis.evidence.chains import fused, pointwise_chains
from mfu_doctor.analysis.evidence.graphs import obstacle_to_compile
from mfu_doctor.analysis.evidence.libraries import library_of
from mfu_doctor.analysis.evidence.loop_kinds import owns_most
from mfu_doctor.analysis.evidence.steady_steps import Rows, spans, steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Every model has activations and residuals: chains below this share of the step are not a fault.
ORDINARY_SHARE = 0.05

_OWN = "@torch.compile  # on the function that contains the pointwise operations"
_OF_LIBRARY = "model = torch.compile(model)  # or a fused version of this function, if {library} has an option for it"


@rule("unfused-elementwise", "KE003", "pointwise operations are not fused", also=("kernel-fusion", "pointwise"))
def unfused_elementwise(run: Run) -> Outcome:
    """Judge chains of pointwise kernels."""
    steady = steady_of(run)
    chains = pointwise_chains(run)
    if chains is None:
        return None
    spent = chains.per_step_ns(run, steady)
    if spent < ORDINARY_SHARE * steady.step_ns:
        return None
    inside = chains.entry[steady.entries(run)[chains.entry]]
    ops = run.launches.op[inside]
    count = steady.per_step(chains.count_in(run, steady))
    place = first_place(run, ops[ops >= 0])
    library = library_of(run, place)
    return Finding(
        summary=f"{counted(steady.per_step(len(inside)), 'pointwise operation')} per step in {counted(count, 'chain')} take "
        f"{steady.share(spent)} of the step",
        fix=_OWN if library is None else _OF_LIBRARY.format(library=library),
        detail="each one reads from memory what the previous one has written",
        decides=Ends(low="half of the passes over memory stay", high="each chain becomes one pass over memory"),
        change=Change(*fused(run, chains)),
        evidence=(
            shown("chains", count, "per step"),
            shown("operations", steady.per_step(len(inside)), "per step"),
            shown("device time", seconds(spent), "s"),
        ),
        place=place,
        risk="rounding",
        trades=library is not None,
        withhold=obstacle_to_compile(run),
        symptom_of=(*_multiplied(run, inside), *_looped(run, ops), "uncompiled"),
    )


def _multiplied(run: Run, entries: Rows) -> tuple[str, ...]:
    """The products that a matmul would compute, if they are most of the time of these entries."""
    products = broadcast_products_of(run)
    if products is None:
        return ()
    _, work = products
    length = (run.activity.end - run.activity.start)[entries]
    return ("broadcast-product",) if 2 * length[work.mask[entries]].sum() > length.sum() else ()


def _looped(run: Run, ops: Rows) -> tuple[str, ...]:
    """The loop that runs most of these operators, if one does: as one operator it has no chains."""
    return ("tensor-loop",) if owns_most(run, spans(run, ops[ops >= 0])) else ()
