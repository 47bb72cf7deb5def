"""Operators compute statistics, checks and text in each step that training does not need.

What it measures
    Operators of the training thread without a gradient in backward, outside of data loading and the optimizer, whose result the
    program reads (.item(), bool()). Two kinds count: what is read at once and can only be a check or a statistic (isnan and
    any, std, median, kthvalue, histc, an accuracy), and all operators of a forward hook up to its last read or histogram. A
    hook is recognized if stacks were recorded. So is writing a tensor out as text, which reads its elements one by one: print(x),
    f"{x}" for a log line even if its level is off, a progress bar that is given a tensor. Anything else without a gradient
    (targets, masks, preprocessing, a teacher, clipping) does not count.

Why it costs
    Each statistic reads whole tensors again, and each read waits until the device has computed it. In a hook this happens for
    every layer.

How the gain is predicted
    Replay simulates the recorded timeline again without these operators and without the waits of their reads.
    Low: only the operators that count, of text with the Python time between them, which formats. Mid: with that Python time.
    High: also what the same function computes right before them, if nothing in this function has a gradient.

How to fix
    Remove the hooks when they have served, or compute the statistics in one step of 100. Keep checks for NaN on the loss alone.
    Let the logger make the text: log.debug("x %s", x) makes none below its level; or ask log.isEnabledFor(logging.DEBUG).

When it is wrong
    The rule is wrong if the program decides something by the value that it reads (skips a step, chooses a branch) or if a hook
    also computes something that the loss uses.

References
    https://pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_forward_hook
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#avoid-unnecessary-cpu-gpu-synchronization
"""

from __future__ import annotations

import re
from collections import Counter

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled, without_host, work_in
from mfu_doctor.analysis.evidence.backward import node_calls
from mfu_doctor.analysis.evidence.diagnostics import Stretches, diagnostics_of
from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady, steady_of
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.replay.edits import Change, DropWaits, Edit
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

_READ = re.compile(r"^aten::(item|is_nonzero|_local_scalar_dense)$")
_NO_STACKS = "whether hooks of modules read values is known only with stacks: record with with_stack=True"
_NAMED = 4  # operators that the sentence names

_WHAT = {
    "hooks": "Statistics and checks that training does not need take",
    "text": "Writing tensors out as text (str, print, f-strings) takes",
    "other": "Statistics and checks that training does not need take",
}
_FIXES = {
    "hooks": "# remove the forward hook that does this, or return from it at once in 99 of 100 steps",
    "text": 'log.debug("x %s", x)  # not f"{x}": text that nobody reads is then not made; print tensors in one step of 100',
    "other": "if step % 100 == 0:  # compute and check these values only then",
}


@rule(
    "diagnostics-in-step",
    "HO035",
    "statistics, checks and text that training does not need",
    also=("forward-hooks", "nan-checks", "activation-statistics", "tensor-printing"),
)
def diagnostics_in_step(run: Run) -> Outcome:
    """Look for statistics that are computed in each step only to be read."""
    found, steady = diagnostics_of(run), steady_of(run)
    if found is None:
        return Skip(_NO_STACKS) if _may_be_hooked(run, steady) else None
    rows = steady.issued(run, found.sure.rows)
    on_device = device_ns(run, steady, work_in(run, found.sure.inside))
    spent = max(on_device, steady.host_ns(found.sure.where - run.host.blocking))
    if not len(rows) or spent < WORTH_SHARE * steady.step_ns:
        return None
    reads = steady.per_step(len(rows_matching(run.trace, _READ, rows)))
    place = _place(run, rows)
    return Finding(
        summary=f"{_WHAT[found.most]} {steady.share(spent)} of the step: {_longest(run, rows)}",
        fix=_FIXES[found.most],
        detail=f"{_read(reads)}no gradient goes through them",
        confidence="measured",
        decides=Ends(
            low="only they go" if found.most == "text" else "only their own operators go",
            high="all that is computed only for them goes too",
        ),
        change=Change(
            _without(run, found.sure, found.sure.where if found.most == "text" else found.sure.inside),
            _without(run, found.sure, found.sure.where),
            _without(run, found.likely, found.likely.where),
        ),
        evidence=(
            shown("statistics and checks", seconds(spent), "s", place),
            shown("operators", steady.per_step(len(rows)), "per step"),
            shown("values read", reads, "per step"),
        ),
        place=place,
    )


def _read(reads: float) -> str:
    return f"their {counted(reads, 'value')} per step are read by the program, and " if reads else ""


def _may_be_hooked(run: Run, steady: Steady) -> bool:
    """Whether values are read in steps that train, and no stacks tell whether hooks do that."""
    operators = run.trace.rows(Category.CPU_OP)
    has_stacks = bool((run.recorded.events.category == Category.PYTHON).any())
    if has_stacks or not len(node_calls(run, operators)):
        return False
    return bool(len(steady.issued(run, rows_matching(run.trace, _READ, operators))))


def _without(run: Run, what: Stretches, host: Intervals) -> tuple[Edit, ...]:
    """These operators are gone, with this host time and the waits in it."""
    waits = run.host.blocking_rows
    waits = waits[what.inside.contains(run.trace.events.start[waits])]
    return (
        *scaled(run, work_in(run, what.inside), 0.0),
        *without_host(run, host),
        *((DropWaits(waits),) if len(waits) else ()),
    )


def _lengths(run: Run, rows: Rows) -> list[int]:
    lengths: list[int] = (run.trace.events.end[rows] - run.trace.events.start[rows]).tolist()
    return lengths


def _place(run: Run, rows: Rows) -> str | None:
    """The user's line that issues most of them, by their time."""
    total: Counter[str] = Counter()
    for place, length in zip(run.places(rows), _lengths(run, rows), strict=True):
        if place is not None:
            total[place] += length
    return total.most_common(1)[0][0] if total else None


def _longest(run: Run, rows: Rows) -> str:
    total: Counter[str] = Counter()
    for row, length in zip(rows.tolist(), _lengths(run, rows), strict=True):
        total[run.trace.name_of(row).removeprefix("aten::")] += length
    return ", ".join(name for name, _ in total.most_common(_NAMED)) + (", ..." if len(total) > _NAMED else "")
