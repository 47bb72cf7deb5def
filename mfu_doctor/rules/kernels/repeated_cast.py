"""With gradient accumulation the same weights are cast to 16 bits in each micro-batch, although they change once per step.

What it measures
    Copies of two-dimensional tensors from fp32 to 16 bits, in steps with several micro-batches.

Why it costs
    The weight cache of autocast is cleared when the context exits. Each micro-batch then casts every weight again: 6 bytes of
    memory traffic per parameter.

How the gain is predicted
    Low: half of the mid saving.
    Mid and high: one cast per weight and step remains.

How to fix
    Put one autocast context around all micro-batches of a step: casts are kept until the outermost context ends. To store the
    weights in bf16, with fp32 master weights in the optimizer, saves all casts and can change convergence.

When it is wrong
    The rule is wrong if two-dimensional activations are cast: it counts them as weights.

References
    https://pytorch.org/docs/stable/amp.html#torch.autocast
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import owner_of, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_COPY = re.compile(r"^aten::copy_$")
_NARROW, _WIDE = ("c10::BFloat16", "c10::Half"), ("float", "float32")
_WEIGHT_DIMS = 2


@rule("repeated-cast", "KE009", "weights are cast again in each micro-batch", needs=(Need.SHAPES,))
def repeated_cast(run: Run) -> Outcome:
    """Judge casts of weights in steps of several micro-batches."""
    steady = steady_of(run)
    micro = _micro_batches(run)
    if micro < 2:
        return None
    owner = owner_of(run, _COPY)
    casts = np.array([row for row in distinct(owner[owner >= 0]).tolist() if _is_weight_cast(run, row)], np.int64)
    mask = np.isin(owner, casts)
    inside = mask & steady.entries(run)
    spent = steady.per_step(float((run.activity.end - run.activity.start)[inside].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    once = 1.0 / micro
    return Finding(
        summary=f"{counted(steady.per_step(len(steady.issued(run, casts))), 'weight cast')} per step "
        f"({micro} per weight) take {steady.share(spent)} of the step",
        fix="with torch.autocast(...):  # one context around all micro-batches of a step: it casts each weight once",
        detail=f"weights change once per step, so {micro - 1} of {micro} casts repeat the same result",
        decides=Ends(low="half of the casts stay", high="each weight is cast once"),
        change=Change(scaled(run, mask, (1 + once) / 2), scaled(run, mask, once), scaled(run, mask, once)),
        evidence=(shown("casts", seconds(spent), "s"), shown("micro-batches", micro, "per step")),
        place=run.places(casts[:1])[0],
        effort="refactor",
    )


def _micro_batches(run: Run) -> int:
    if run.facts is not None and run.facts.micro_batches is not None:
        return round(run.facts.micro_batches)
    steady = steady_of(run)
    return round(steady.per_step(len(steady.issued(run, run.host.fetch_rows))))


def _is_weight_cast(run: Run, row: int) -> bool:
    args = run.trace.args_of(row)
    if args is None or args.dims is None:
        return False
    dims = args.shape(0)
    narrowing = args.type_of(0) in _NARROW and args.type_of(1) in _WIDE
    return narrowing and dims is not None and len(dims) == _WEIGHT_DIMS
