"""How long a test waits for what must come: so long that only what never comes fails, on a slow or busy machine, too."""

from __future__ import annotations

import time
from collections.abc import Callable

from mfu_doctor.capture.patience import came

LONGEST_S = 600.0
_LOOKS_EVERY_S = 0.05


def until(happened: Callable[[], object], longest_s: float = LONGEST_S) -> bool:
    """Look again and again; returns whether it happened."""

    def looked(_: float) -> bool:
        if happened():
            return True
        time.sleep(_LOOKS_EVERY_S)
        return False

    return came(looked, longest_s)
