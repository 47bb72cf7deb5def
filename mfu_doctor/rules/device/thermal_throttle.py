"""The device lowers its clock because it is too hot.

What it measures
    The share of the busy samples in which the driver names heat as the reason for a lower clock (software or hardware thermal
    slowdown, or a hardware slowdown that is no power brake), the driver's own counter of the time held back by heat, and the
    mean clock of the busy samples.

Why it costs
    Tensor cores do their work per cycle: a clock 20 % lower makes matrix products take 25 % longer.

How the gain is predicted
    Matrix products, convolutions and attention take the part of their time that the mean busy clock is of the clock to reach:
    the lower of the card's highest clock and the clock at which its peak is stated. Half of that gain at the low end, all of it
    at the middle and high ends. Kernels bound by memory keep their time. Replay gives the step.

How to fix
    Cooling: air flow, fans, inlet temperature, dust, and neighbours in the same chassis. nvidia-smi -q -d TEMPERATURE shows
    the temperature at which this card slows down.

When it is wrong
    Without heat the power limit may hold the clock below the one to reach. Samples at 10 Hz miss shorter events, the counter
    does not, but it covers the whole of profile().

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
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule("thermal-throttle", "DV001", "heat lowers the clock", needs=(Need.SAMPLES,))
def thermal_throttle(run: Run) -> Outcome:
    """Judge whether heat holds the clock back."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples of the busy device: record more steps")
    seen, counted = _hot_share(samples), throttled_share(samples, "thermal")
    if seen is None and counted is None:
        return Skip("the driver tells neither why clocks are low nor for how long")
    held = max(seen or 0.0, counted or 0.0)
    if held <= OFTEN:
        return None
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip(f"heat lowers the clock {share(held, 1.0)} of the time, but by how much was not sampled")
    hottest = samples.highest(samples.device.temperature_c)
    heat = "" if hottest is None else f" at {hottest:.0f} C"
    evidence = [
        shown("held back by heat", held, "share"),
        shown("mean busy clock", clocks.mean_mhz, "MHz"),
        shown("clock to reach", clocks.reach_mhz, "MHz"),
    ]
    if hottest is not None:
        evidence.append(shown("hottest", hottest, "C"))
    return Finding(
        summary=f"Heat lowers the clock to {number(clocks.mean_mhz)} of {number(clocks.reach_mhz)} MHz{heat}, "
        f"{share(held, 1.0)} of the time",
        fix="nvidia-smi -q -d TEMPERATURE,PERFORMANCE  # improve cooling: air flow, fans, inlet temperature",
        change=at_full_clock(run, clocks),
        detail="the card is slow until it is cooler: no change to the program helps",
        evidence=tuple(evidence),
        effort="setting",
    )


def _hot_share(samples: Sampled) -> float | None:
    """Share of the busy samples slowed by heat; a hardware slowdown counts unless the driver calls it a power brake."""
    masks = samples.masks()
    hot = [
        bool(mask & (SW_THERMAL | HW_THERMAL)) or (bool(mask & HW_SLOWDOWN) and not mask & HW_POWER_BRAKE)
        for mask in masks
    ]
    return sum(hot) / len(hot) if hot else None
