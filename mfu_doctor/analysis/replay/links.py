"""Which operations use the link between host and device. A link carries one large copy at a time.

A trace shows this only for copies that ran at the same time: what they took includes that they shared the link. Copies that the
host issued one after another, because it waited for each, would compete if it did not. Whether the two directions compete depends
on the machine (PCIe can carry both, its host often cannot), so an edit says if they do not (`TwoWayLink`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.vocabulary import TO_DEVICE as TO_DEVICE_NAME
from mfu_doctor.analysis.names.vocabulary import TO_HOST as TO_HOST_NAME
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.model import NO_LINK, TO_DEVICE, TO_HOST
from mfu_doctor.analysis.views.activity import COPY, Activity
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_US

# A shorter copy is latency more than bytes: it finds room on the link between others.
LONG_COPY_NS = 50 * NS_PER_US
# A call from pageable memory returns a little before its copy ends, so that the next copy can start then: that is no sharing.
_TOUCH_SHARE = 0.05


def link_use(trace: Trace, activity: Activity, entry: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """How each of these entries of the activity table uses the link, shape of `entry`.

    Args:
        trace: the trace.
        activity: device work.
        entry: some of it.
    """
    name = trace.events.name[activity.row[entry]]
    start, end = activity.start[entry], activity.end[entry]
    long = (activity.kind[entry] == COPY) & (end - start >= LONG_COPY_NS)
    use = np.full(len(entry), NO_LINK, np.int8)
    use[long & np.isin(name, ids_matching(trace, TO_DEVICE_NAME))] = TO_DEVICE
    use[long & np.isin(name, ids_matching(trace, TO_HOST_NAME))] = TO_HOST
    copies = np.flatnonzero(use != NO_LINK)
    use[copies[_shared(start[copies], end[copies])]] = NO_LINK
    return use


def _shared(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of these spans overlap others for more than `_TOUCH_SHARE` of their length."""
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    before, after = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
    reach = np.maximum.accumulate(end)
    before[1:] = np.minimum(reach[:-1], end[1:]) - start[1:]
    after[:-1] = end[:-1] - start[1:]
    shared = np.zeros(len(start), np.bool_)
    shared[order] = np.maximum(before, after) > _TOUCH_SHARE * (end - start)
    return shared
