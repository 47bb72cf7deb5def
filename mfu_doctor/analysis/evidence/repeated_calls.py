"""Modules that a step calls several times with the same tensors: one call is enough, and what the others do is needless.

The recorder knows the calls of the step that was recorded in depth. A call that draws random numbers (dropout, sampling) gives
another result each time. The call that stays is one that backward goes through, if there is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.attribution import work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.needless_backward import NeedlessBackward, needless_backward, whole_nodes
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts import RepeatedCall
from mfu_doctor.trace import Category

_RANDOM = re.compile(
    r"^aten::(\w*dropout\w*|bernoulli_?|normal_?|uniform_?|rand\w*|exponential_?|multinomial|poisson|rrelu\w*|_fused_dropout)$"
)
_POSITIVE = re.compile(r"0?\.\d*[1-9]\d*")  # a probability as an argument is printed
_ATTENTION = re.compile(r"^aten::(scaled_dot_product_attention|_scaled_dot_product_\w+)$")


@dataclass(frozen=True, slots=True)
class Repeated:
    """Calls that need not be made.

    Attributes:
        modules: classes of the modules that are called.
        rows: outermost operators of these calls, all steps.
        work: their forward pass, and their backward pass where they have one beside that of the call that stays.
    """

    modules: tuple[str, ...]
    rows: Rows
    work: NeedlessBackward


def repeated_calls_of(run: Run) -> Repeated | None:
    """The calls that could be left out; None if there are none, or if the calls of modules were not watched."""
    told = run.facts.repeated_calls if run.facts is not None else None
    if not told:
        return None
    operators = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, operators)
    makers = maker_of(run, nodes)
    modules: list[str] = []
    rows: list[Rows] = []
    again: list[Rows] = []
    for call in told:
        made = _calls(run, call, operators)
        if min(map(len, made), default=0) == 0 or any(_is_random(run, one) for one in made):
            continue
        live = [nodes[np.isin(makers, one)] for one in made]
        kept = next((at for at, its in enumerate(live) if len(its)), 0)
        modules.append(call.module)
        rows += [one for at, one in enumerate(made) if at != kept]
        again += [its for at, its in enumerate(live) if at != kept]
    if not rows:
        return None
    forward = outermost(run, np.sort(np.concatenate(rows)))
    backward = needless_backward(run, whole_nodes(np.sort(np.concatenate(again))))
    where = union(*_spans(run, rows)) | backward.whole
    share = work_in(run, where).astype(np.float64)
    return Repeated(tuple(dict.fromkeys(modules)), forward, NeedlessBackward(where, share, share, backward.handed))


def _calls(run: Run, call: RepeatedCall, operators: Rows) -> list[Rows]:
    """For each call of a module its operators in the analysed trace, of all steps."""
    twins = run.recorded_rows(operators)
    start = np.where(twins >= 0, run.recorded.events.start[np.maximum(twins, 0)], -1)
    spans = [union(*np.array([[a], [b]], np.int64) - run.recorded.origin_ns) for a, b in call.spans if b > a]
    return [operators[span.contains(start)] for span in spans]


def _is_random(run: Run, rows: Rows) -> bool:
    """Whether random numbers are drawn: by an operator of its own, or as dropout inside of attention."""
    if len(rows_matching(run.trace, _RANDOM, rows)):
        return True
    given = [run.trace.args_of(row) for row in rows_matching(run.trace, _ATTENTION, rows).tolist()]
    texts = [text for args in given if args is not None and args.concrete for text in args.concrete]
    return any(_POSITIVE.fullmatch(text) for text in texts)


def _spans(run: Run, rows: list[Rows]) -> tuple[Rows, Rows]:
    """Start and end of each of these calls in each step, with the Python between their operators."""
    start, end = run.trace.events.start, run.trace.events.end
    starts: list[int] = []
    ends: list[int] = []
    for one in rows:
        step = np.searchsorted(run.steps.host_start, start[one], side="right")
        for _, mine in groups(step):
            starts.append(int(start[one[mine]].min()))
            ends.append(int(end[one[mine]].max()))
    return np.array(starts, np.int64), np.array(ends, np.int64)
