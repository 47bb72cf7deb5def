"""Rule levels: off, warn or error, set for a rule or a family.

A finding is only advice by default. If a project sets its level to error, `check` fails on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from mfu_doctor.errors import DoctorError
from mfu_doctor.rules.catalogue import key_of

OFF, WARN, ERROR = "off", "warn", "error"
LEVELS = (OFF, WARN, ERROR)


def level_of(rule: str, code: str, levels: Mapping[str, str]) -> str:
    """The level of a rule: by name, else by code, else by family, else warn."""
    for key in (rule, code, code[:2]):
        if key in levels:
            return levels[key]
    return WARN


def parse_levels(given: Mapping[str, object]) -> dict[str, str]:
    """Levels from what the user wrote, by the rule's name or the family's letters, however the user named them.

    So an option wins over the file whichever name each of them uses.

    Args:
        given: level by rule or family, by any of their names.

    Raises:
        DoctorError: no such rule (with a suggestion) or no such level.
    """
    levels = {key_of(key): level for key, level in given.items()}
    for key, level in levels.items():
        if level not in LEVELS:
            raise DoctorError(f"invalid level {level!r} for {key}", f"use one of {', '.join(LEVELS)}")
    return {key: str(level) for key, level in levels.items()}
