"""Rule levels: off, warn or error, set by a rule's name, its code or its family.

A finding is advice until a project decides that it must not come back; then its level is error and `check` fails on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mfu_doctor.errors import DoctorError, suggest

OFF, WARN, ERROR = "off", "warn", "error"
LEVELS = (OFF, WARN, ERROR)

_FAMILY = re.compile(r"^[A-Z]{2}$")


def level_of(rule: str, code: str, levels: Mapping[str, str]) -> str:
    """The level of a rule: by name, else by code, else by family, else warn."""
    for key in (rule, code, code[:2]):
        if key in levels:
            return levels[key]
    return WARN


def parse_levels(given: Mapping[str, object], rules: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Levels from what the user wrote.

    Args:
        given: level by rule name, code or family.
        rules: name and code of every rule there is.

    Raises:
        DoctorError: no such rule (with a suggestion) or no such level.
    """
    families = {code[:2] for _, code in rules}
    known = {word for rule in rules for word in rule} | families
    for key, level in given.items():
        if key not in known:
            offered = sorted(families) if _FAMILY.match(key) else [name for name, _ in rules]
            raise DoctorError(f"there is no rule {key!r}", suggest(key, offered))
        if level not in LEVELS:
            raise DoctorError(f"the level of {key} is {level!r}", f"use one of {', '.join(LEVELS)}")
    return {key: str(level) for key, level in given.items()}
