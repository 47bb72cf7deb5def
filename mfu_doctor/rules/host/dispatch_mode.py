"""Every operator passes through a mode that is written in Python.

What it measures
    The operators of a step that a torch.utils._python_dispatch.TorchDispatchMode takes in its hands, and the time that its Python
    takes around them. The recording names the mode; a trace shows only that there is one.

Why it costs
    A mode (FlopCounterMode, one that logs or checks operators) is called for each operator, forward and backward, and calls the
    operator itself. That is some tens of microseconds each time, and nothing else is launched meanwhile.

How the gain is predicted
    The Python between an operator and what the mode calls for it is removed, and replay gives the new step time.
    Low: only what the mode itself takes.
    High: the operator is dispatched once instead of twice, too: nothing stays of the outer one but what the inner one does.
    Mid: half of that stays.

How to fix
    Use the mode in one step and keep what it found: counts of FLOPs do not change as long as shapes do not. Debugging modes
    belong in the steps that you debug.

When it is wrong
    The rule is wrong if training needs what the mode does: it changes tensors, or decides what is kept for backward. Modes of
    torch that do so (selective checkpointing) are left out.

References
    https://dev-discuss.pytorch.org/t/what-and-why-is-torch-dispatch/557
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, scaled, spans_of_rows, without_host
from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import Rows, steady_of, under
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

_MODE = re.compile(r"^PythonDispatchMode$")
# Modes that training needs: what they keep or change is part of the step.
_NEEDED = re.compile(
    r"^torch\.(utils\.checkpoint|fx|_functorch|_subclasses|_higher_order_ops|autograd\.graph|distributed\._local_tensor)\b"
)
# Of the operators of backward: selective checkpointing has a mode around forward and around what is computed again, no more.
_MOST = 0.8


@rule(
    "dispatch-mode",
    "HO040",
    "operators pass through a mode in Python",
    also=("flop-counter", "torch-dispatch-mode", "flop-counter-mode"),
)
def dispatch_mode(run: Run) -> Outcome:
    """Look for a mode around all operators of the step."""
    steady = steady_of(run)
    operators = run.trace.rows(Category.CPU_OP)
    modes = steady.issued(run, rows_matching(run.trace, _MODE, operators))
    if not len(modes):
        return None
    names = _names(run)
    if names == () or not (names or _is_around_all(run, operators)):
        return None
    outer = _operators_around(run, modes)
    where = _python_of(run, operators, modes)
    own = np.isin(run.activity.row, modes)
    spent = max(device_ns(run, steady, own), steady.host_ns(where))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    called = steady.per_step(len(modes))
    mode = (*scaled(run, own, 0.0), *without_host(run, where))
    return Finding(
        summary=f"{names[-1] if names else 'A mode in Python'} takes {steady.share(spent)} of the step: each operator passes "
        "through it",
        fix=f"# {names[-1] if names else 'the mode'}: in one step, and keep what it found; no `with` around the others",
        confidence="measured",
        decides=Ends(low="the second dispatch of each operator stays", high="each operator is dispatched once"),
        change=Change(mode, (*mode, *_outer(run, outer, modes, 0.5)), (*mode, *_outer(run, outer, modes, 0.0))),
        evidence=(shown("calls of the mode", called, "per step"), shown("mode", seconds(spent), "s")),
        place=first_place(run, modes),
        effort="line",
    )


def _names(run: Run) -> tuple[str, ...] | None:
    """The recorded modes that training may do without; None if they were not recorded, or there is only one within a module."""
    precision = run.facts.precision if run.facts is not None else None
    if precision is None or not precision.dispatch_modes:
        return None
    found = [name for name in precision.dispatch_modes if not _NEEDED.match(name)]
    return tuple(name.rpartition(".")[2].lstrip("_") for name in found)


def _is_around_all(run: Run, operators: Rows) -> bool:
    """Whether most operators of backward that call no others pass a mode."""
    rows = steady_of(run).issued(run, operators)
    rows = rows[in_backward(run, rows)]
    rows = rows[~np.isin(rows, run.ops.parent[rows])]
    return bool(len(rows)) and float((under(run, rows, _MODE) >= 0).mean()) >= _MOST


def _operators_around(run: Run, modes: Rows) -> Rows:
    """The operators that gave themselves into a mode's hands."""
    parents = run.ops.parent[modes].astype(np.int64)
    return parents[(parents >= 0) & ~np.isin(parents, modes)]


def _python_of(run: Run, operators: Rows, modes: Rows) -> Intervals:
    """Host time within modes in which no operator runs that they called."""
    called = operators[np.isin(run.ops.parent[operators], modes) & ~np.isin(operators, modes)]
    return spans_of_rows(run, modes) - spans_of_rows(run, called)


def _outer(run: Run, outer: Rows, modes: Rows, left: float) -> tuple[Edit, ...]:
    """Of what these operators take themselves this part is left: on a CPU they are the device's work."""
    if run.is_cpu:
        return scaled(run, np.isin(run.activity.row, outer), left)
    return (ScaleHost(spans_of_rows(run, outer) - spans_of_rows(run, modes), left),)
