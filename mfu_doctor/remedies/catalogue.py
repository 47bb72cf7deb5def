"""All remedies, in the order in which `mfu-doctor try --list` shows them; a remedy that is not listed here is never tried."""

from __future__ import annotations

from mfu_doctor.errors import DoctorError
from mfu_doctor.remedies.own_file import SUFFIX, remedy_in
from mfu_doctor.remedies.remedy import Chosen, Circumstances, Remedy

REMEDIES: tuple[Remedy, ...] = ()


def remedy_named(name: str) -> Chosen:
    """The remedy of a name such as "fused-optimizer", "loader-workers=2" or "mine.py"; without a setting, its setting is None.

    Raises:
        DoctorError: there is none of this name.
    """
    if name.endswith(SUFFIX):
        return Chosen(remedy_in(name))
    bare, _, setting = name.partition("=")
    for remedy in REMEDIES:
        if remedy.name == bare:
            return Chosen(remedy, setting or None)
    known = ", ".join(remedy.name for remedy in REMEDIES)
    raise DoctorError(f"no remedy is named {name!r}", f"mfu-doctor try --list shows them: {known}")


def remedies_for(rule: str) -> tuple[Remedy, ...]:
    """The remedies that are a fix of this rule's finding."""
    return tuple(remedy for remedy in REMEDIES if rule in remedy.answers)


def settled_on(chosen: Chosen, circumstances: Circumstances) -> Chosen:
    """The same remedy with a setting: that of the user, else the one that suits the program and the machine."""
    return chosen if chosen.setting is not None else Chosen(chosen.remedy, chosen.remedy.setting(circumstances))
