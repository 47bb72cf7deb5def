"""Why a program needs the digits that it computes in: what it does with its numbers would be lost in a narrower dtype.

The factorization of a nearly singular matrix fails with fewer digits, also if only the matrix is computed with fewer. Second
derivatives and line searches live on small differences of large numbers.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, owner_of, work_in
from mfu_doctor.analysis.evidence.backward import is_differentiated
from mfu_doctor.analysis.evidence.steady_steps import Mask, steady_of
from mfu_doctor.analysis.names.optimizers import SEARCHES, optimizer_class
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import share

_FACTORIZATION = re.compile(
    r"^aten::(_?linalg_(cholesky|inv|solve|lu|ldl|eig|svd|qr|lstsq|pinv|det|slogdet|matrix_exp)|_?cholesky|triangular_solve"
    r"|_?lu_|_svd|svd|logdet|slogdet|inverse|pinverse|geqrf|orgqr|ormqr|matrix_exp)"
)


def factorized(run: Run, least_ns: float, of: Mask | None = None) -> str | None:
    """That matrices are factorized or systems solved outside the optimizer, as a clause; None if it takes too little time.

    Args:
        run: the run.
        least_ns: per step, from which on it matters.
        of: only these entries of the activity table; None: all.
    """
    owner = owner_of(run, _FACTORIZATION)
    mine = (owner >= 0) & ~work_in(run, run.optimizer_steps.own)
    mine &= True if of is None else of
    steady = steady_of(run)
    spent = device_ns(run, steady, mine)
    if spent < least_ns or not spent:
        return None
    names, count = np.unique(run.trace.events.name[owner[mine]], return_counts=True)
    name = run.trace.names[int(names[np.argmax(count)])].removeprefix("aten::")
    return f"{name} and operators like it take {share(spent, steady.step_ns)} of the step and need the digits"


def double_on_purpose(run: Run, entries: Mask, least_ns: float) -> str | None:
    """Why work in float64 is meant to be, as a clause; None if nothing shows it.

    Args:
        run: the run.
        entries: the work in float64.
        least_ns: per step, from which on a part of it matters.
    """
    found = factorized(run, least_ns, entries)
    if found is not None:
        return found
    if is_differentiated(run):
        return "derivatives of derivatives are taken, which need the digits"
    precision = run.facts.precision if run.facts is not None else None
    if precision is not None and precision.default_dtype == "float64":
        return "the program makes float64 its default dtype: it is meant to be"
    marks = run.trace.events.name[run.optimizer_steps.marks]
    if any(optimizer_class(run.trace.names[name]) == SEARCHES for name in distinct(marks).tolist()):
        return f"{SEARCHES} compares losses that differ little, which needs the digits"
    return None
