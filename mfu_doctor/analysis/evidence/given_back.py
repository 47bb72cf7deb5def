"""What a step gains from cores that others give back, and the threads of the program that have some of them."""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.core_waits import HELPERS
from mfu_doctor.arrays.intervals import union

_LEAST = 0.01  # of the step


def given_back(run: Run, delay: float) -> ScaleHost:
    """The step without so much waiting for a core: host time and operators become shorter, waits for data do not."""
    everything = union(run.steps.host_start.min(keepdims=True), run.steps.host_end.max(keepdims=True))
    working, steady = everything - run.host.fetch, steady_of(run)
    part = max(steady.host_ns(working) / steady.step_ns, _LEAST)
    return ScaleHost(working, max(1.0 - delay / part, 0.0))


def busiest_thread(run: Run) -> str:
    """In words: the thread beside training that has most of the cores."""
    host = run.facts.host if run.facts is not None else None
    name = host.turns.python_busiest if host is not None and host.turns is not None else None
    return "a thread that the program started" + (f" ({name})" if name else "")


def threads_given_back(run: Run) -> tuple[ScaleHost, ...]:
    """The step without what it waits for threads of the program: likely and at most; () if that is not known or too little."""
    waits = run.core_waits
    delay = (0.0, 0.0, 0.0) if isinstance(waits, str) else waits.because_of(HELPERS)
    return tuple(given_back(run, part) for part in delay[1:]) if delay[1] >= _LEAST else ()
