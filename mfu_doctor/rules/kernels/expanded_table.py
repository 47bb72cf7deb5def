"""A table is looked up far more often than it has rows, and what was looked up goes into a product.

What it measures
    Lookups (nn.Embedding, table[index]) with at least 4 times as many indices as the table has rows, whose result the next
    product reads, and that product; their time in forward and backward. Relative positions of every pair are the usual case:
    T x T indices into a table of T or 2 T rows.

Why it costs
    The same few rows are written again and again, and read by a product that multiplies each of them anew. Backward makes a
    gradient of that size and adds it up into the table, index by index.

How the gain is predicted
    The product with the table itself gives the same numbers: scores for each row of the table, of which each pair takes its own
    (or weights that are added up for each row first). It takes FLOPs / rate, but at least the traffic of its operands, of the
    scores for all rows and of the result / bandwidth; backward is twice that.
    Low: half of the FLOP/s that the matmuls of this run reach on average, and four times the traffic (torch.gather and
    scatter_add read one element at a time).
    Mid: their mean FLOP/s, and twice the traffic.
    High: the FLOP/s of the fastest of them, and the traffic once (the scores are shifted by padding and a view).

How to fix
    Multiply first, look up then: torch.gather(q @ table.t(), -1, index). If the index is a distance, the scores can be shifted
    without it: pad, view, slice ("skewing").

When it is wrong
    The product is known by the order of the calls and by its size. Rows that something else may read too are left alone: they
    must still be looked up.

References
    Huang et al., Music Transformer, ICLR 2019 (skewing).
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.as_matmuls import NO_RATES, usual_rates
from mfu_doctor.analysis.evidence.attribution import device_ns
from mfu_doctor.analysis.evidence.expanded_tables import ExpandedTable, expanded_tables_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_TRAFFIC = (4.0, 2.0, 1.0)  # how often the least traffic is moved: low, mid, high


@rule(
    "expanded-table",
    "KE046",
    "a table is looked up far more often than it has rows, and then multiplied",
    needs=(Need.SHAPES,),
    also=("relative-positions", "skewing", "relative-attention"),
)
def expanded_table(run: Run) -> Outcome:
    """Judge products that read a lookup of many more indices than rows."""
    found = expanded_tables_of(run)
    if found is None:
        return None
    tables, work = found
    steady = steady_of(run)
    spent = device_ns(run, steady, work.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    largest = max(tables, key=lambda one: one.indices)
    rates = usual_rates(run, largest.dtype)
    if rates is None:
        return Skip(NO_RATES)
    count = steady.per_step(len(steady.issued(run, np.array([one.rows[0] for one in tables], np.int64))))
    rows, width = largest.table
    return Finding(
        summary=f"Rows of a table that are looked up {number(largest.indices / rows)} times each and multiplied, "
        f"{counted(count, 'time')} per step: {steady.share(spent)} of the step with their backward",
        fix=_fix(largest),
        detail=f"{number(largest.indices)} indices into {number(rows)} rows of width {number(width)}: the product with the table "
        "itself gives the same numbers",
        decides=Ends(low="gather and scatter move elements one by one", high="scores are shifted by a view"),
        change=Change(*(work.edit(run, rate, times) for rate, times in zip(rates, _TRAFFIC, strict=True))),
        evidence=(
            shown("such lookups", count, "per step"),
            shown("their time and their products'", seconds(spent), "s"),
            shown("indices", largest.indices, "count"),
            shown("rows of the table", rows, "count"),
        ),
        place=run.places(np.array(largest.rows[:1]))[0],
        effort="refactor",
        risk="rounding",
    )


def _fix(table: ExpandedTable) -> str:
    if table.scores:
        return (
            "s = torch.gather(q @ table.t(), -1, index.expand(...))  # instead of q times table[index]; distances can be "
            "shifted instead: pad, view, slice"
        )
    return "y = torch.zeros(...).scatter_add_(-1, index.expand_as(w), w) @ table  # instead of the product of w and table[index]"
