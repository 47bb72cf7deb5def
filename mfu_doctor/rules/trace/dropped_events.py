"""The file has lost events, so counts are too low and idle time is too high.

What it measures
    What the reader had to leave out: a truncated end, or events that could not be read.

Why it costs
    A missing kernel looks like idle time. A missing launch breaks the connection from a kernel to its operator.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record fewer steps without stacks and memory events. Wait until the file is complete before you copy it.

When it is wrong
    The rule is wrong if the events were lost outside the analysed steps: then the numbers do not change.

References
    https://github.com/pytorch/kineto/blob/main/libkineto/README.md
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.recorders import record_again
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.lost_device import may_hide_a_gpu
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown

# Problems of a file that mean that events are missing, not only that text had to be repaired.
_CUT = "truncated"
_LOSING = (_CUT, "events-dropped")


@rule("dropped-events", "TR001", "events are missing from the trace")
def dropped_events(run: Run) -> Outcome:
    """Judge what the reader found wrong with the file."""
    lost = [p for p in run.recorded.problems if p.kind in _LOSING]
    if not lost:
        return None
    count = sum(p.count for p in lost if p.kind != _CUT)  # how many events a cut end had, nobody knows
    is_unsure = may_hide_a_gpu(run.trace, run.ops)
    told = "The end of the trace is missing" + (": whether this run used a GPU is not known" if is_unsure else "")
    cut = [told] if any(p.kind == _CUT for p in lost) else []
    dropped = [f"{'it' if cut else 'The trace'} has lost {counted(count, 'event')}"] if count else []
    return Finding(
        summary=" and ".join([*cut, *dropped]),
        fix=record_again(run, active=3),
        detail="; ".join(p.text for p in lost),
        evidence=tuple(shown(p.kind, p.count, "count") for p in lost if p.kind != _CUT),
        effort="setting",
        confidence="measured",
        spoils="advice" if is_unsure else "figures",
    )
