"""Operators that compute on the CPU of a GPU run, and the copies that bring what they make to the GPU."""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.copies import Copies
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, outermost
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching
from mfu_doctor.analysis.replay.edits import ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups, on_each
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_US

# Operators that make a tensor from nothing: with device="cuda" the GPU makes it.
MAKER = re.compile(
    r"^aten::(rand\w*|normal\w*|uniform_?|bernoulli\w*|exponential_|multinomial|zeros\w*|ones\w*|full\w*|fill_|zero_|arange"
    r"|linspace|logspace|eye|tril_indices|triu_indices|scalar_tensor|tensor|hann_window|hamming_window)$"
)
# What issuing an operator costs the CPU if this run has none that launches: the middle of what eager operators take (5 to 50 us).
_USUAL_ISSUE_NS = 20 * NS_PER_US


class Computed(Struct, frozen=True):
    """One operator of those that compute on the CPU, by its name: its rows in the steady steps and nanoseconds per step."""

    name: str
    rows: Rows
    per_step_ns: float

    @property
    def makes(self) -> bool:
        """Whether it makes a tensor from nothing."""
        return bool(MAKER.match(self.name))


def computed_of(run: Run, steady: Steady) -> list[Computed]:
    """What computes on the CPU in the steady steps, the longest first."""
    rows = steady.issued(run, run.host.computing_rows)
    events = run.trace.events
    length = events.lasting(rows)
    found = [
        Computed(run.trace.names[i], rows[mine], steady.per_step(float(length[mine].sum())))
        for i, mine in groups(events.name[rows])
    ]
    return sorted(found, key=lambda c: -c.per_step_ns)


def issued_instead(run: Run, rows: Rows) -> ShortenHost:
    """Host time if these operators only launched what they compute."""
    events = run.trace.events
    ops = distinct(run.launches.op[run.launches.op >= 0])
    usual = float(np.median(events.lasting(ops))) if len(ops) else float(_USUAL_ISSUE_NS)
    start, end = events.start[rows], events.end[rows]
    return ShortenHost(start, end, np.minimum(end - start, int(usual)))


def made_on_host(run: Run, copies: Copies) -> Mask:
    """Which of these copies move what the operator before them made on the CPU from nothing."""
    events, trace = run.trace.events, run.trace
    rows = trace.rows(Category.CPU_OP)
    rows = outermost(run, rows[~np.isin(events.name[rows], ids_matching(trace, LABEL))])
    calls = run.launches.call[run.launches.call >= 0]
    makes = np.isin(events.name[rows], ids_matching(trace, MAKER)) & ~_issues(run, rows, calls)
    issuer = copies.issuer(run)
    made = np.zeros(len(issuer), np.bool_)
    for mine, own in on_each(events.track[issuer], events.track[rows]):
        at = np.searchsorted(events.start[rows[own]], events.start[issuer[mine]], side="right") - 2
        made[mine] = (at >= 0) & makes[own[np.maximum(at, 0)]] if len(own) else False
    return made


def _issues(run: Run, rows: Rows, calls: Rows) -> Mask:
    """Whether each of these operators makes one of the calls."""
    events = run.trace.events
    found = np.zeros(len(rows), np.bool_)
    for mine, here in on_each(events.track[rows], events.track[calls]):
        begun = np.sort(events.start[calls[here]])
        first = np.searchsorted(begun, events.start[rows[mine]], side="left")
        found[mine] = np.searchsorted(begun, events.end[rows[mine]], side="left") > first
    return found
