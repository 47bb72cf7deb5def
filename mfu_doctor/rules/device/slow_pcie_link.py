"""The PCIe link of the device runs below what slot and card can do.

What it measures
    Generation and width of the link while the device was busy (an idle link slows down to save power), against the highest
    that the driver states for this card in this machine.

Why it costs
    Each generation carries twice as much per lane and each halving of the width half as much: copies between host and device
    take that much longer.

How the gain is predicted
    Copies from host to device and back take the ratio of the two bandwidths of their time; half of that gain at the low end,
    all of it at the middle and high ends. Hidden copies save nothing. Replay gives the step.

How to fix
    The slot (some have eight lanes), the riser or cable, the card's seat, and the link speed in the firmware's settings.

When it is wrong
    Copies from pageable memory are often bound by the host and not by the link. Some machines report a highest width that the
    slot is not wired for. A link that was read in a pause of the run can be slow for that reason.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html (nvmlDeviceGetCurrPcieLinkGeneration)
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.device_samples import sampled
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

_OVER_THE_LINK = re.compile(r"HtoD|DtoH")
_PER_GENERATION = 2.0  # bandwidth per lane of a generation over that of the one before (PCI-SIG, 1.0 to 6.0)
_HALF = 0.5


@rule("slow-pcie-link", "DV005", "the PCIe link is slower than it can be", needs=(Need.SAMPLES,))
def slow_pcie_link(run: Run) -> Outcome:
    """Judge the link between host and device."""
    samples = sampled(run)
    if samples is None:
        return Skip("no sample of the device")
    device = samples.device
    now, best = (device.pcie_gen, device.pcie_width), (device.pcie_gen_max, device.pcie_width_max)
    if now[0] is None or now[1] is None or best[0] is None or best[1] is None:
        return Skip("the PCIe link was not read while the device was busy, or the driver does not tell its best")
    if now[0] >= best[0] and now[1] >= best[1]:
        return None
    factor = min(_PER_GENERATION ** (now[0] - best[0]) * now[1] / best[1], 1.0)
    return Finding(
        summary=f"The PCIe link runs at generation {now[0]} x{now[1]} of {best[0]} x{best[1]}: "
        f"{share(factor, 1.0)} of its bandwidth",
        fix="nvidia-smi -q | grep -A 8 'GPU Link Info'  # check slot, riser and firmware settings",
        change=_change(run, factor),
        evidence=(
            shown("generation", now[0], "count"),
            shown("highest generation", best[0], "count"),
            shown("lanes", now[1], "count"),
            shown("most lanes", best[1], "count"),
        ),
        effort="setting",
    )


def _change(run: Run, factor: float) -> Change:
    """Copies between host and device at the link's best."""
    activity = run.activity
    named = np.isin(run.trace.events.name[activity.row], ids_matching(run.trace, _OVER_THE_LINK))
    rows = np.unique(activity.row[named & (activity.kind == COPY)])

    def scaled(part: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), 1.0 - part * (1.0 - factor))),)

    return Change(scaled(_HALF), scaled(1.0), scaled(1.0))
