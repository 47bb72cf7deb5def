"""Somebody fixed the clock of the device below what it can do.

What it measures
    The mean clock of the busy samples against the card's highest, and the reasons that the driver gives: set by application or
    locked clocks, and by neither heat nor power.

Why it costs
    Tensor cores do their work per cycle: at 80 % of the clock matrix products take 25 % longer.

How the gain is predicted
    Matrix products, convolutions and attention take the part of their time that the mean busy clock is of the clock to reach:
    the lower of the card's highest clock and the clock at which its peak is stated. Half of that gain at the low end (power
    or heat may be the next limit), all of it at the middle and high ends. Replay gives the step.

How to fix
    nvidia-smi -rgc removes locked clocks, nvidia-smi -rac application clocks.

When it is wrong
    Clocks are locked on purpose for repeatable measurements and to save power. Data centres may forbid the change.

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
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

LOW = 0.90  # of the highest clock; boost steps and rounding stay above
MOSTLY = 0.5  # the setting must hold in most of the busy samples to explain their mean clock
_OTHER_REASONS = SW_POWER_CAP | HW_SLOWDOWN | SYNC_BOOST | SW_THERMAL | HW_THERMAL | HW_POWER_BRAKE


@rule("low-clocks", "DV004", "clocks are set below the highest", needs=(Need.SAMPLES,))
def low_clocks(run: Run) -> Outcome:
    """Judge whether a setting holds the clock low."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples of the busy device: record more steps")
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip("the SM clock was not sampled, or how high it can go is unknown")
    fixed, throttled = samples.share(APPLICATION_CLOCKS), samples.share(_OTHER_REASONS)
    if fixed is None or throttled is None:
        return Skip("the driver does not tell why clocks are low")
    highest = samples.device.max_sm_mhz or clocks.reach_mhz
    if clocks.mean_mhz >= LOW * highest or fixed < MOSTLY or throttled > OFTEN:
        return None
    device = samples.device.device
    return Finding(
        summary=f"Clocks are set to {number(clocks.mean_mhz)} of {number(highest)} MHz, {share(clocks.mean_mhz, highest)}",
        fix=f"sudo nvidia-smi -i {device} -rgc; sudo nvidia-smi -i {device} -rac",
        change=at_full_clock(run, clocks),
        detail="locked or application clocks: neither heat nor power holds the card back",
        evidence=(
            shown("mean busy clock", clocks.mean_mhz, "MHz"),
            shown("highest clock", highest, "MHz"),
            shown("clock to reach", clocks.reach_mhz, "MHz"),
            shown("held by a setting", fixed, "share"),
        ),
        effort="setting",
        symptom_of=("thermal-throttle",),  # where the counter tells of heat, both price the same lost clock
    )
