"""The compiled core: modules of ours in Cython, each of which does what some Python beside it does, only faster.

They are optional. Without a compiler the package is installed without them, and Python gives the same results to the last
digit. A module lies beside the Python that it stands in for, and has its name with `_core` at the end.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType

# Set to anything but 0 or nothing, this variable makes everything run in Python.
PURE = "MFU_DOCTOR_PURE"
WALK = "mfu_doctor.analysis.replay.walk_core"
STACKS = "mfu_doctor.analysis.views.stacks_core"
SCAN = "mfu_doctor.reading.scan_core"
MODULES = (WALK, STACKS, SCAN)
# What Python and a module of the core have agreed on. One that was built from an older source, as an editable installation can
# leave it behind, says another number and is not used.
AGREED = 3


@cache
def core(name: str) -> ModuleType | None:
    """This module of the core, or None if Python is to do its work."""
    return None if why_not(name) is not None else import_module(name)


@cache
def why_not(name: str) -> str | None:
    """Why this module of the core is not used; None if it is."""
    if os.environ.get(PURE, "0") not in ("", "0"):
        return f"{PURE} is set"
    try:
        found = import_module(name)
    except ImportError as error:
        return "it is not built" if isinstance(error, ModuleNotFoundError) else str(error)
    return None if found.AGREED == AGREED else "it is built from an older source: install the package again"
