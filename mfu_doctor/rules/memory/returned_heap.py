"""The allocator gives a step's memory back to the system, and every page of it is faulted in again at the next step.

What it measures
    Page faults of the process during the un-profiled steps of a CPU run, and what one fault costs on this machine.

Why it costs
    glibc returns the top of its heap, and every large block, as soon as it is freed. A training step frees all of its activations
    and gradients and asks for as much a moment later; the system then has to find and clear each page again.

How the gain is predicted
    Faults a step times the measured cost of one. Half of them vanish (low) or all (mid, high); operators take that much less, and
    replay gives the step.

How to fix
    Keep the memory in the process: raise glibc's thresholds before Python starts, or preload tcmalloc or jemalloc.

When it is wrong
    Faults also come from mapped files; where loader workers hand over batches in shared memory it is not judged. The process
    holds its peak memory for good. Older glibc takes no threshold above 32 MiB, so larger blocks are mapped afresh all the same:
    preload an allocator then. Several threads fault at the same time, so the time they take together can be less.

References
    https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html;
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.facts import MANY_PAGE_FAULTS
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S

SEEN_SHARE = 0.02  # of the step; loading code and reading files fault a little in any run
_GONE = (0.5, 1.0, 1.0)  # share of the faults that the fix removes, by end


@rule("returned-heap", "ME004", "memory is given back and faulted in again each step", needs=(Need.FACTS,))
def returned_heap(run: Run) -> Outcome:
    """Judge the page faults of a CPU run."""
    if not run.is_cpu:
        return None
    host = run.facts.host if run.facts is not None else None
    if host is None or host.page_faults_per_s is None:
        return Skip("page faults were not counted")
    if host.page_faults_per_s < MANY_PAGE_FAULTS:
        return None
    if run.facts is not None and any(loader.num_workers for loader in run.facts.loaders):
        return Skip("loader workers hand over batches in shared memory, whose pages fault too")
    if host.page_fault_s is None:
        return Skip("what a page fault costs here could not be measured")
    spent = host.page_faults_per_s * host.page_fault_s  # of each second
    if spent < SEEN_SHARE:
        return None
    if spent > 1.0:
        return Skip(
            "the page faults counted cost more than the time there was: what one costs was not measured rightly"
        )
    step_s = run.replay.measured_ns / NS_PER_S
    return Finding(
        summary=f"{host.page_faults_per_s * step_s:,.0f} page faults a step take about {share(spent, 1.0)} of it: the "
        "heap is given back each time",
        fix="export MALLOC_TRIM_THRESHOLD_=4294967295 MALLOC_MMAP_THRESHOLD_=33554432  # before Python starts",
        detail="or LD_PRELOAD tcmalloc or jemalloc; the process then keeps its peak memory",
        change=Change(*(_scaled(run, 1.0 - part * min(spent, 0.9)) for part in _GONE)),
        evidence=(
            shown("page faults", host.page_faults_per_s * step_s, "per step"),
            shown("one page fault", host.page_fault_s, "s"),
        ),
        effort="setting",
        confidence="modelled",
    )


def _scaled(run: Run, factor: float) -> tuple[Edit, ...]:
    rows = np.unique(run.activity.row[run.activity.kind == COMPUTE])
    return (ScaleDevice(rows, np.full(len(rows), factor)),)
