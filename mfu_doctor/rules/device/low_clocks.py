"""The clock of the GPU is set below its maximum.

What it measures
    The mean clock of the samples under load against the maximum clock of the card, and the clock event reasons of the driver:
    application clocks or locked clocks are active, and no other reason (heat, power) is.

Why it costs
    Tensor cores do a fixed amount of work per cycle: at 80 % of the clock, a matmul takes 25 % longer.

How the gain is predicted
    The time of matmul, convolution and attention kernels is multiplied by (mean clock under load) / (target clock). The target
    clock is the smaller of the maximum clock of the card and the clock of its datasheet peak.
    Low: half of this gain, because power or heat may be the next limit.
    Mid and high: all of it.
    Replay gives the new step time.

How to fix
    nvidia-smi -rgc removes locked clocks. nvidia-smi -rac removes application clocks.

When it is wrong
    The rule is wrong if clocks are locked on purpose, for repeatable measurements or to save power. A data centre may forbid
    the change.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_samples import (
    APPLICATION_CLOCKS,
    HW_POWER_BRAKE,
    HW_SLOWDOWN,
    HW_THERMAL,
    OFTEN,
    SW_POWER_CAP,
    SW_THERMAL,
    SYNC_BOOST,
    at_full_clock,
    clocks_of,
    sampled,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

LOW = 0.90  # of the maximum clock; boost steps and rounding remain above
MOSTLY = 0.5  # the setting explains the mean clock only if it is active in most of the samples under load
_OTHER_REASONS = SW_POWER_CAP | HW_SLOWDOWN | SYNC_BOOST | SW_THERMAL | HW_THERMAL | HW_POWER_BRAKE


@rule("low-clocks", "DV004", "the clock is set below its maximum", needs=(Need.SAMPLES,))
def low_clocks(run: Run) -> Outcome:
    """Judge whether a setting holds the clock low."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples under load: record more steps")
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip("the SM clock was not sampled, or its maximum is unknown")
    fixed, throttled = samples.share(APPLICATION_CLOCKS), samples.share(_OTHER_REASONS)
    if fixed is None or throttled is None:
        return Skip("the driver does not report the clock event reasons")
    highest = samples.device.max_sm_mhz or clocks.reach_mhz
    if clocks.mean_mhz >= LOW * highest or fixed < MOSTLY or throttled > OFTEN:
        return None
    device = samples.device.device
    return Finding(
        summary=f"SM clock is set below its maximum: mean {number(clocks.mean_mhz)} of {number(highest)} MHz "
        f"({share(clocks.mean_mhz, highest)})",
        fix=f"sudo nvidia-smi -i {device} -rgc; sudo nvidia-smi -i {device} -rac",
        decides=Ends(low="heat or power stop the clock half-way", high="the clock reaches its maximum"),
        change=at_full_clock(run, clocks),
        detail="the reason is locked clocks or application clocks, not heat or power",
        evidence=(
            shown("mean clock under load", clocks.mean_mhz, "MHz"),
            shown("maximum clock", highest, "MHz"),
            shown("target clock", clocks.reach_mhz, "MHz"),
            shown("time limited by a clock setting", fixed, "share"),
        ),
        effort="setting",
        symptom_of=("thermal-throttle",),  # if the counter shows heat, both predict from the same lost clock
    )
