"""The device lowers its clock because it may draw no more power.

What it measures
    The share of the busy samples in which the driver names power as the reason for a lower clock (its own power cap, or the
    hardware's power brake), the power limit in force against the card's default, and the mean clock of the busy samples.

Why it costs
    Tensor cores do their work per cycle. A card that somebody capped below its default limit runs all matrix products slower.

How the gain is predicted
    Matrix products, convolutions and attention take the part of their time that the mean busy clock is of the clock to reach:
    the lower of the card's highest clock and the clock at which its peak is stated. Half of that gain at the low end, all of it
    at the middle and high ends. Replay gives the step. At the default limit a power cap is how heavy 16-bit products normally
    run: then it is withheld, with the clock that it costs.

How to fix
    nvidia-smi -pl with the default limit, where the limit in force is lower; the power supply or the rack where the power brake
    is on.

When it is wrong
    Limits below the default are often set on purpose, for power or cooling. At the default limit the card may still not hold
    the clock to reach.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_samples import (
    HW_POWER_BRAKE,
    OFTEN,
    SW_POWER_CAP,
    Clocks,
    Sampled,
    at_full_clock,
    clocks_of,
    sampled,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.quantities import number, share
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

# NVML gives limits in milliwatts; drivers round them, so a limit counts as lower from one watt on.
_ROUNDING_W = 1.0


@rule("power-cap", "DV002", "a power limit lowers the clock", needs=(Need.SAMPLES,))
def power_cap(run: Run) -> Outcome:
    """Judge whether a power limit holds the clock back."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples of the busy device: record more steps")
    held, braked = samples.share(SW_POWER_CAP | HW_POWER_BRAKE), samples.share(HW_POWER_BRAKE)
    if held is None or braked is None:
        return Skip("the driver does not tell why clocks are low")
    if held <= OFTEN:
        return None
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip(f"a power limit lowers the clock {share(held, 1.0)} of the time, but by how much was not sampled")
    is_braked = braked > OFTEN
    lost = f"{number(clocks.mean_mhz)} of {number(clocks.reach_mhz)} MHz"
    withhold = None if is_braked else _normal(samples.device, lost)
    by = "The hardware's power brake" if is_braked else _named(samples.device)
    return Finding(
        summary=f"{by} lowers the clock {share(held, 1.0)} of the time: {lost}",
        fix=_fix(samples.device, is_braked),
        change=at_full_clock(run, clocks),
        evidence=_evidence(samples, held, clocks),
        effort="setting",
        # Both price the same lost clock, which a plan must not count twice.
        symptom_of=() if withhold else ("thermal-throttle",),
        withhold=withhold,
    )


def _is_capped(device: DeviceSamples) -> bool:
    """Whether somebody set the limit below the card's default."""
    limit, default = device.power_limit_w, device.default_power_limit_w
    return limit is not None and default is not None and limit < default - _ROUNDING_W


def _named(device: DeviceSamples) -> str:
    if _is_capped(device):
        return f"A power limit of {device.power_limit_w:.0f} W (default {device.default_power_limit_w:.0f} W)"
    return "The power limit" if device.power_limit_w is None else f"The power limit of {device.power_limit_w:.0f} W"


def _normal(device: DeviceSamples, lost: str) -> str | None:
    """Why a power cap is no fault here; None where it is one."""
    if _is_capped(device):
        return None
    if device.power_limit_w is None or device.default_power_limit_w is None:
        return f"whether the power limit is below the card's default was not read; the clock is {lost}"
    return f"nobody capped the card: {device.default_power_limit_w:.0f} W is its default limit; the clock is {lost}"


def _fix(device: DeviceSamples, is_braked: bool) -> str:
    if is_braked:
        return "nvidia-smi -q -d PERFORMANCE,POWER  # 'HW Power Brake' is active: check the power supply and the rack"
    if _is_capped(device):
        return f"sudo nvidia-smi -i {device.device} -pl {device.default_power_limit_w:.0f}"
    return "nvidia-smi -q -d POWER  # compare the limit in force with the default and the highest one"


def _evidence(samples: Sampled, held: float, clocks: Clocks) -> tuple[Evidence, ...]:
    device = samples.device
    read = (
        ("mean power", samples.mean(device.power_w), "W"),
        ("power limit", device.power_limit_w, "W"),
        ("default limit", device.default_power_limit_w, "W"),
    )
    return (
        shown("held back by power", held, "share"),
        shown("clock lost", 1.0 - clocks.factor, "share"),
        shown("mean busy clock", clocks.mean_mhz, "MHz"),
        shown("clock to reach", clocks.reach_mhz, "MHz"),
        *(shown(name, value, unit) for name, value, unit in read if value is not None),
    )
