"""The GPU lowers its clock because it is too hot.

What it measures
    The share of the samples under load in which the driver gives heat as the reason for a lower clock (software or hardware
    thermal slowdown, or hardware slowdown without power brake), the driver's counter of the time throttled by heat, and the
    mean clock of these samples.

Why it costs
    Tensor cores do a fixed amount of work per cycle: at a 20 % lower clock, a matmul takes 25 % longer.

How the gain is predicted
    The time of matmul, convolution and attention kernels is multiplied by (mean clock under load) / (target clock). The target
    clock is the smaller of the maximum clock of the card and the clock of its datasheet peak.
    Low: half of this gain.
    Mid and high: all of it.
    Replay gives the new step time. Memory-bound kernels keep their time.

How to fix
    Improve the cooling: air flow, fans, inlet temperature, dust, other cards in the same chassis. nvidia-smi -q -d TEMPERATURE
    shows the temperature at which this card slows down.

When it is wrong
    The rule promises too much if the power limit keeps the clock below the target after cooling. Sampling at 10 Hz misses short
    events. The counter of the driver does not miss them, but it covers the whole profile() block.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_samples import (
    HW_POWER_BRAKE,
    HW_SLOWDOWN,
    HW_THERMAL,
    OFTEN,
    SW_THERMAL,
    Sampled,
    at_full_clock,
    clocks_of,
    sampled,
    throttled_share,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule("thermal-throttle", "DV001", "heat lowers the clock", needs=(Need.SAMPLES,))
def thermal_throttle(run: Run) -> Outcome:
    """Judge whether heat lowers the clock."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples under load: record more steps")
    seen, counted = _hot_share(samples), throttled_share(samples, "thermal")
    if seen is None and counted is None:
        return Skip("the driver reports no clock event reasons and no throttling time")
    held = max(seen or 0.0, counted or 0.0)
    if held <= OFTEN:
        return None
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip(f"heat lowers the clock {share(held, 1.0)} of the time, but the clock itself was not sampled")
    hottest = samples.highest(samples.device.temperature_c)
    heat = "" if hottest is None else f", up to {hottest:.0f} C"
    evidence = [
        shown("time throttled by heat", held, "share"),
        shown("mean clock under load", clocks.mean_mhz, "MHz"),
        shown("target clock", clocks.reach_mhz, "MHz"),
    ]
    if hottest is not None:
        evidence.append(shown("highest temperature", hottest, "C"))
    return Finding(
        summary=f"Heat lowers the clock {share(held, 1.0)} of the time: mean {number(clocks.mean_mhz)} of "
        f"{number(clocks.reach_mhz)} MHz{heat}",
        fix="nvidia-smi -q -d TEMPERATURE,PERFORMANCE  # improve cooling: air flow, fans, inlet temperature",
        decides=Ends(low="power stops the clock half-way", high="the clock reaches its maximum"),
        change=at_full_clock(run, clocks),
        detail="the card must be cooled: a change of the program does not help",
        evidence=tuple(evidence),
        effort="setting",
    )


def _hot_share(samples: Sampled) -> float | None:
    """Share of the samples under load slowed by heat; a hardware slowdown counts if the driver reports no power brake."""
    masks = samples.masks()
    hot = [
        bool(mask & (SW_THERMAL | HW_THERMAL)) or (bool(mask & HW_SLOWDOWN) and not mask & HW_POWER_BRAKE)
        for mask in masks
    ]
    return sum(hot) / len(hot) if hot else None
