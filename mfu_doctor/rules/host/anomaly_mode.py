"""The anomaly detection of autograd is on.

What it measures
    Whether torch.is_anomaly_enabled() was True during the recorded steps, and the time that it added: operators that check every
    gradient for NaN, and the stack trace that is formatted when an operator is recorded for backward.

Why it costs
    Each differentiable operator formats a Python stack trace, and each gradient is read once more.

How the gain is predicted
    The NaN checks in backward are removed, and so is the time of the stack traces. The time per operator is estimated from view
    operators (t, view, expand, ...) of this run: they compute nothing, so their time above 2 us is the stack trace.
    Low: half of the time of the stack traces is removed.
    Mid and high: all of it is removed.
    Replay gives the new step time.

How to fix
    Delete torch.autograd.set_detect_anomaly(True), or keep it only in the few steps that you debug.

When it is wrong
    The rule is wrong if anomaly detection is on to find a NaN.

References
    https://pytorch.org/docs/stable/autograd.html#anomaly-detection
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import steady_of, under
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_US, seconds

# Operators of the search: isnan is written as `x != x`, then any().item() decides.
_SEARCH = re.compile(r"^aten::(isnan|ne|any|is_nonzero|item|_local_scalar_dense)$")
_ANSWER = re.compile(r"^aten::any$")  # once a search
_VIEW = re.compile(r"^aten::(t|view|transpose|expand|unsqueeze|squeeze|slice|select|permute|as_strided|detach|alias)$")
# A view without anomaly mode takes about this long on the host.
_PLAIN_VIEW_NS = 2 * NS_PER_US


@rule("anomaly-mode", "HO031", "anomaly detection is on", needs=(Need.FACTS,), also=("detect-anomaly",))
def anomaly_mode(run: Run) -> Outcome:
    """Judge whether anomaly detection is on."""
    precision = run.facts.precision if run.facts is not None else None
    if precision is None or precision.anomaly_mode is None:
        return Skip("anomaly detection was not recorded: it may be on or off")
    if not precision.anomaly_mode:
        return None
    steady, searches = steady_of(run), _searches(run)
    searched = steady.per_step(len(steady.issued(run, rows_matching(run.trace, _ANSWER, searches))))
    each = _stack_ns(run)
    gone = ScaleDevice(searches, np.zeros(len(searches)))
    low, mid = (gone, _without_stacks(run, each / 2)), (gone, _without_stacks(run, each))
    return Finding(
        summary="Anomaly detection is on: it formats a stack trace per operator and checks every gradient for NaN",
        fix="torch.autograd.set_detect_anomaly(False)",
        change=Change(low, mid, mid),
        evidence=(shown("NaN checks", searched, "per step"), shown("stack trace per operator", seconds(each), "s")),
        effort="line",
    )


def _searches(run: Run) -> npt.NDArray[np.int64]:
    """Rows of the operators of the NaN searches: those inside a node of backward, with all that they call."""
    rows = run.trace.rows(Category.CPU_OP)
    named = np.isin(rows, rows_matching(run.trace, _SEARCH, rows))
    return rows[(named | (under(run, rows, _SEARCH) >= 0)) & in_backward(run, rows)]


def _stack_ns(run: Run) -> float:
    """Nanoseconds to format one stack trace, as the view operators of this run show it."""
    views = rows_matching(run.trace, _VIEW, _differentiable(run))
    return max(float(np.median(_own_ns(run)[views])) - _PLAIN_VIEW_NS, 0.0) if len(views) else 0.0


def _without_stacks(run: Run, each_ns: float) -> Edit:
    rows = _differentiable(run)
    return SetDevice(rows, np.maximum(_own_ns(run)[rows] - each_ns, 0).astype(np.int64))


def _differentiable(run: Run) -> npt.NDArray[np.int64]:
    """Operators that recorded a node for backward: they have a sequence number."""
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.sequence[rows] >= 0]
    return rows[np.isin(rows, run.activity.row)]


def _own_ns(run: Run) -> npt.NDArray[np.float64]:
    """Time of each event of its own, without its children and without recording, in nanoseconds."""
    return np.bincount(run.activity.row, run.unrecorded_ns, minlength=len(run.trace.events)).astype(np.float64)
