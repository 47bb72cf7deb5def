"""The GPU lowers its clock because it has reached its power limit.

What it measures
    The share of the samples under load in which the driver gives power as the reason for a lower clock (its own power cap, or
    the power brake of the hardware), the power limit in force against the default of the card, and the mean clock.

Why it costs
    Tensor cores do a fixed amount of work per cycle. If the power limit is set below the default, all matmuls run slower.

How the gain is predicted
    The time of matmul, convolution and attention kernels is multiplied by (mean clock under load) / (target clock). The target
    clock is the smaller of the maximum clock of the card and the clock of its datasheet peak.
    Low: half of this gain.
    Mid and high: all of it.
    Replay gives the new step time.
    At the default limit, large 16-bit matmuls normally reach the power limit. This is not a fault of the run, so the fix is not
    recommended, and the finding shows the clock that is lost.

How to fix
    Set the default limit with nvidia-smi -pl if the limit in force is lower. If the power brake is on, check the power supply
    and the rack.

When it is wrong
    The rule is wrong if the limit is below the default on purpose, for power or cooling. Even at the default limit the card may
    not reach the target clock.

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
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

# NVML gives limits in milliwatts; drivers round them, so a limit counts as lower from one watt on.
_ROUNDING_W = 1.0


@rule("power-cap", "DV002", "a power limit lowers the clock", needs=(Need.SAMPLES,))
def power_cap(run: Run) -> Outcome:
    """Judge whether a power limit lowers the clock."""
    samples = sampled(run)
    if samples is None or not samples.is_enough:
        return Skip("too few samples under load: record more steps")
    held, braked = samples.share(SW_POWER_CAP | HW_POWER_BRAKE), samples.share(HW_POWER_BRAKE)
    if held is None or braked is None:
        return Skip("the driver does not report the clock event reasons")
    if held <= OFTEN:
        return None
    clocks = clocks_of(run, samples)
    if clocks is None:
        return Skip(
            f"a power limit lowers the clock {share(held, 1.0)} of the time, but the clock itself was not sampled"
        )
    is_braked = braked > OFTEN
    lost = f"{number(clocks.mean_mhz)} of {number(clocks.reach_mhz)} MHz"
    withhold = None if is_braked else _normal(samples.device, lost)
    by = "The power brake of the hardware" if is_braked else _named(samples.device)
    return Finding(
        summary=f"{by} lowers the clock {share(held, 1.0)} of the time: mean {lost}",
        fix=_fix(samples.device, is_braked),
        decides=Ends(low="heat stops the clock half-way", high="the clock reaches its maximum"),
        change=at_full_clock(run, clocks),
        evidence=_evidence(samples, held, clocks),
        effort="setting",
        # Both predict from the same lost clock, which a plan must not count twice.
        symptom_of=() if withhold else ("thermal-throttle",),
        withhold=withhold,
    )


def _is_capped(device: DeviceSamples) -> bool:
    """Whether the limit is set below the default of the card."""
    limit, default = device.power_limit_w, device.default_power_limit_w
    return limit is not None and default is not None and limit < default - _ROUNDING_W


def _named(device: DeviceSamples) -> str:
    if _is_capped(device):
        return f"A power limit of {device.power_limit_w:.0f} W (default {device.default_power_limit_w:.0f} W)"
    return "The power limit" if device.power_limit_w is None else f"The power limit of {device.power_limit_w:.0f} W"


def _normal(device: DeviceSamples, lost: str) -> str | None:
    """Why the power cap is not a fault here; None if it is one."""
    if _is_capped(device):
        return None
    if device.power_limit_w is None or device.default_power_limit_w is None:
        return f"the power limit or its default is unknown; the mean clock is {lost}"
    return f"the power limit is the default ({device.default_power_limit_w:.0f} W); the mean clock is {lost}"


def _fix(device: DeviceSamples, is_braked: bool) -> str:
    if is_braked:
        return "nvidia-smi -q -d PERFORMANCE,POWER  # 'HW Power Brake' is active: check the power supply and the rack"
    if _is_capped(device):
        return f"sudo nvidia-smi -i {device.device} -pl {device.default_power_limit_w:.0f}"
    return "nvidia-smi -q -d POWER  # compare the limit in force with the default and the maximum"


def _evidence(samples: Sampled, held: float, clocks: Clocks) -> tuple[Evidence, ...]:
    device = samples.device
    read = (
        ("mean power", samples.mean(device.power_w), "W"),
        ("power limit", device.power_limit_w, "W"),
        ("default limit", device.default_power_limit_w, "W"),
    )
    return (
        shown("time limited by power", held, "share"),
        shown("clock lost", 1.0 - clocks.factor, "share"),
        shown("mean clock under load", clocks.mean_mhz, "MHz"),
        shown("target clock", clocks.reach_mhz, "MHz"),
        *(shown(name, value, unit) for name, value, unit in read if value is not None),
    )
