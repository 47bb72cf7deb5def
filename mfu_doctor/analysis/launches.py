"""Which runtime call launched each device operation, and which operator owns it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Launches:
    """For each entry of `Activity`, shape (n,): event rows, -1 where the trace does not say.

    On a CPU-only trace `call` is -1 and `op` is the entry's own row.
    """

    call: npt.NDArray[np.int64]  # runtime or driver call that launched it (many kernels share one graph launch)
    op: npt.NDArray[np.int64]  # innermost CPU operator that owns it
