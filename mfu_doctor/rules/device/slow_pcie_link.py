"""The PCIe link of the GPU is slower than the slot and the card allow.

What it measures
    Generation and width of the link under load (an idle link slows down to save power), against the maximum that the driver
    reports for this card in this machine.

Why it costs
    Each PCIe generation doubles the bandwidth per lane, and half the lanes give half the bandwidth. Copies between host and
    device take correspondingly longer.

How the gain is predicted
    The time of the copies between host and device is multiplied by (current bandwidth) / (maximum bandwidth).
    Low: half of this gain.
    Mid and high: all of it.
    Copies that overlap with compute save nothing. Replay gives the new step time.

How to fix
    Check the slot (some have only eight lanes), the riser or cable, the seat of the card in the slot, and the link speed in the
    BIOS.

When it is wrong
    The rule promises too much for copies from pageable memory: the CPU often limits them, and not PCIe. Some machines report a
    maximum width that the slot does not have. A link that was read while the GPU was idle can be slow only to save power.

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
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

_OVER_THE_LINK = re.compile(r"HtoD|DtoH")
_PER_GENERATION = 2.0  # bandwidth per lane of a generation over that of the one before (PCI-SIG, 1.0 to 6.0)
_HALF = 0.5


@rule("slow-pcie-link", "DV005", "the PCIe link is slower than it can be", needs=(Need.SAMPLES,))
def slow_pcie_link(run: Run) -> Outcome:
    """Judge the PCIe link between host and device."""
    samples = sampled(run)
    if samples is None:
        return Skip("the GPU was not sampled")
    device = samples.device
    now, best = (device.pcie_gen, device.pcie_width), (device.pcie_gen_max, device.pcie_width_max)
    if now[0] is None or now[1] is None or best[0] is None or best[1] is None:
        return Skip("the PCIe link was not read under load, or the driver does not report its maximum")
    if now[0] >= best[0] and now[1] >= best[1]:
        return None
    factor = min(_PER_GENERATION ** (now[0] - best[0]) * now[1] / best[1], 1.0)
    return Finding(
        summary=f"PCIe link runs at Gen{now[0]} x{now[1]} instead of Gen{best[0]} x{best[1]}: "
        f"{share(factor, 1.0)} of its maximum bandwidth",
        fix="nvidia-smi -q | grep -A 8 'GPU Link Info'  # check the slot, the riser and the BIOS settings",
        decides=Ends(low="the slot or the host gives half of the difference", high="the link reaches its full rate"),
        change=_change(run, factor),
        evidence=(
            shown("generation", now[0], "count"),
            shown("maximum generation", best[0], "count"),
            shown("lanes", now[1], "count"),
            shown("maximum lanes", best[1], "count"),
        ),
        effort="setting",
    )


def _change(run: Run, factor: float) -> Change:
    """Copies between host and device at the maximum bandwidth of the link."""
    activity = run.activity
    named = np.isin(run.trace.events.name[activity.row], ids_matching(run.trace, _OVER_THE_LINK))
    rows = distinct(activity.row[named & (activity.kind == COPY)])

    def scaled(part: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), 1.0 - part * (1.0 - factor))),)

    return Change(scaled(_HALF), scaled(1.0), scaled(1.0))
