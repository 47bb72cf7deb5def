"""Only the start of the program was recorded: its first allocations and first launches, which no later step has.

What it measures
    Of a recording without repeated steps: the time in which the GPU is idle because a call allocates memory, creates a stream,
    loads code or launches a kernel, and this one call takes a millisecond or more. In a running program such calls take
    microseconds.

Why it costs
    The first use of a GPU creates its context, the first launch of a kernel loads its code, and the first step fills the caching
    allocator. This happens once. Whoever takes it for a step looks for faults that training does not have.

How the gain is predicted
    No gain is predicted. This is a caution: advice on such a recording would be wrong, so none is given.

How to fix
    Record steps after warm-up, and call prof.step() at the end of each iteration.

When it is wrong
    The rule is wrong if the program is so short that its start is what it does.

References
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#lazy-loading
    https://pytorch.org/docs/stable/profiler.html#torch.profiler.schedule
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.recorders import record_again
from mfu_doctor.analysis.evidence.steady_steps import spans, steady_of
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import CALL_CATEGORIES
from mfu_doctor.units import seconds

# Calls that prepare the device or launch. Those that copy or wait may take long in any step.
_SETS_UP = re.compile(
    r"Malloc|Free|HostAlloc|HostRegister|Create|Module|Library|Context|Primary|GetDevice|Launch|Init|Peer"
)
# A launch takes about 5 us and an allocation 100; what is a thousand times as long loads code or makes a context.
_LONG_NS = 1_000_000
# Less than half of the recording: the rest may be a step.
_MOST = 0.5


@rule(
    "startup-recording",
    "TR012",
    "only the start of the program was recorded",
    needs=(Need.DEVICE,),
    also=("start-up", "first-allocations", "lazy-loading"),
)
def startup_recording(run: Run) -> Outcome:
    """Look for calls of the first use of a GPU in the only step."""
    steady = steady_of(run)
    if steady.count > 1:
        return None
    calls = rows_matching(run.trace, _SETS_UP, run.trace.rows(*CALL_CATEGORIES))
    events = run.trace.events
    first = spans(run, calls[events.end[calls] - events.start[calls] >= _LONG_NS]) & steady.device
    first = first - run.activity.busy()
    if first.total_ns < _MOST * steady.step_ns:
        return None
    allocating = (first & run.host.allocator).total_ns
    parts = (("allocations", allocating), ("launches", first.total_ns - allocating))
    told = " and ".join(f"first {what} ({time_of(ns)})" for what, ns in parts if ns)
    return Finding(
        summary=f"This recording is start-up: {share(first.total_ns, steady.step_ns)} of its "
        f"{time_of(steady.step_ns)} are {told}",
        fix=record_again(run, skip=10, active=5),
        evidence=(
            shown("first allocations", seconds(allocating), "s"),
            shown("first launches", seconds(first.total_ns - allocating), "s"),
        ),
        effort="setting",
        confidence="measured",
        spoils="advice",
    )
