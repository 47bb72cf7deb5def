"""What explains that a CPU-only run does something else than its operators."""

from __future__ import annotations

from mfu_doctor.analysis.evidence.diagnostics import takes_most
from mfu_doctor.analysis.evidence.loader_restarts import is_of_restarts
from mfu_doctor.analysis.evidence.loop_kinds import owns_most
from mfu_doctor.analysis.evidence.rare_work import roots_of_rare_work
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals


def roots_on_cpu(run: Run, where: Intervals) -> tuple[str, ...]:
    """Rules that explain this time between operators of a CPU-only run."""
    return (
        *roots_of_rare_work(run, where),
        *(("diagnostics-in-step",) if takes_most(run, where) else ()),
        *(("tensor-loop",) if owns_most(run, where) else ()),
        *(("restarted-loader",) if is_of_restarts(run, where) else ()),
    )
