"""Take out of a timeline the wait for data that the rest of the run no longer had (see `views.later_waits`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edit_timeline import apply
from mfu_doctor.analysis.replay.edits import ScaleHost
from mfu_doctor.analysis.replay.model import Timeline
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.later_waits import LaterWaits


def as_later(timeline: Timeline, row_of_entry: npt.NDArray[np.int64], host: Host, waits: LaterWaits | None) -> Timeline:
    """The timeline with its fetches as short as they were in the rest of the run; unchanged if they were as long.

    Args:
        timeline: what edits are applied to.
        row_of_entry: event row of each Activity entry.
        host: what the host threads did.
        waits: per step, recorded and later.
    """
    share = 1.0 if waits is None else waits.share
    if share >= 1.0:
        return timeline
    shorter = apply(timeline, (ScaleHost(host.fetch, share),), row_of_entry)
    return replace(shorter, measured_ns=timeline.measured_ns * walk(shorter) / walk(timeline))
