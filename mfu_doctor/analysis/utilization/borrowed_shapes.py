"""Whether the shapes of the step that was recorded in depth can be those of the timed steps.

Batches of varying lengths give every step its own shapes. A matmul of a timed step that would have run faster with them than the
processor can had others, or the peak is too low because other processes took cores while it was measured. Which of both is not
known, so that none are borrowed.
"""

from __future__ import annotations

from mfu_doctor.analysis.utilization.reached_rates import reached_rates
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.quantities import flops_rate
from mfu_doctor.trace import DEVICE_CATEGORIES, Trace

# Peaks that were measured one after another on one machine differed by less than a tenth; no matmul is a fifth faster.
_TOO_FAST = 1.2


def misfit(recorded: Trace, timed: Trace) -> str | None:
    """What shows that the timed steps had other shapes; None if nothing does.

    Args:
        recorded: the trace as it was recorded.
        timed: its timed steps, with the shapes of the other one.
    """
    measured = recorded.facts.measured_peaks if recorded.facts is not None else ()
    if not measured or len(recorded.rows(*DEVICE_CATEGORIES)):
        return None
    own = reached_rates(recorded)
    known = {short: max(peak.flops, own.get(short, 0.0)) for peak in measured if (short := short_dtype(peak.dtype))}
    for dtype, rate in reached_rates(timed).items():
        if dtype in known and rate > _TOO_FAST * known[dtype]:
            return (
                f"with the shapes of the step that was recorded with them, a matmul of the timed steps would have reached "
                f"{flops_rate(rate)}, where {flops_rate(known[dtype])} were measured as possible: they had other shapes, or "
                "other processes took cores while the peak was measured"
            )
    return None
