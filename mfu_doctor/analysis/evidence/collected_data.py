"""Whether long steps may collect what usual ones learn from: a rollout acts at random, keeps what it sees, and updates take rows.

An evaluation, a checkpoint or a log makes nothing that training reads. A trace does not tell which tensor an operator got, and
mostly no sizes of a long step. So this says what may be, not what is.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.vocabulary import LABEL, VIEW, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category

_DRAWS = re.compile(
    r"^aten::(normal_?|multinomial|bernoulli_?|exponential_|poisson|binomial|rand\w*|uniform_|_sample_\w+)$"
)
_TAKES = re.compile(r"^aten::(index|index_select|gather|take)$")
_STACKS = re.compile(r"^aten::stack$")
_PART = re.compile(r"^aten::(select|slice|narrow)$")
_WRITE = re.compile(r"^aten::copy_$")
# A function that is named for acting in an environment, or for what it gathers there: not what collects metrics or garbage.
_ACTS = re.compile(
    r"^_?(\w+_)?(rollouts?|self_?play)$|^_?(act|explore|simulate|(select|choose|sample|get|take)_actions?(_and_values?)?)$"
    r"|(^|_)collect_(experiences?|trajector\w+|episodes?|transitions?)$"
)
# Of a rollout, and none itself.
_TELLS = re.compile(r"^_?(log|plot|print|show|save|write|eval|evaluate|test|render|record)_")
_FEWEST = 4  # parts of a buffer that are written: a rollout has one for each time


def is_named_for_it(function: str | None) -> bool:
    """Whether a function's name says that it acts in an environment: what it makes is what steps learn from."""
    name = (function or "").lower()
    return _ACTS.search(name) is not None and not _TELLS.match(name)


def may_be_learned_from(run: Run, extra: Intervals) -> bool:
    """Whether this work of long steps draws random numbers and keeps what it makes, and usual steps take rows by an index."""
    steps, start = run.steps, run.trace.events.start
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.track[rows] == run.host.main_track]
    rows = outermost(run, without(rows, rows_matching(run.trace, LABEL, rows)))
    inside = rows[extra.contains(start[rows])]
    if not len(rows_matching(run.trace, _DRAWS, inside)) or not _keeps(run, inside):
        return False
    usual = np.flatnonzero(steps.steady & ~steps.long)
    apart = union(steps.host_start[usual], steps.host_end[usual])
    taking = rows_matching(run.trace, _TAKES, rows[apart.contains(start[rows])])
    return bool((~in_backward(run, taking)).any())


def _keeps(run: Run, rows: Rows) -> bool:
    """Whether these operators write parts of a buffer again and again, or stack what they made."""
    if len(rows_matching(run.trace, _STACKS, rows)):
        return True
    views = without(rows_matching(run.trace, VIEW, rows), rows_matching(run.trace, _PART, rows))
    rows = without(rows, views)
    parts, writes = (np.isin(rows, rows_matching(run.trace, pattern, rows)) for pattern in (_PART, _WRITE))
    return int(np.count_nonzero(parts[:-1] & writes[1:])) >= _FEWEST
