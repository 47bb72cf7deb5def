"""Every rule in one explicit tuple, in family order, and how a user names them: by name, code or family.

A tuple and not a directory scan: one page shows everything, and go-to-definition works.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mfu_doctor.errors import DoctorError
from mfu_doctor.rules.communication import RULES as COMMUNICATION
from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.device import RULES as DEVICE
from mfu_doctor.rules.host import RULES as HOST
from mfu_doctor.rules.input import RULES as INPUT
from mfu_doctor.rules.kernels import RULES as KERNELS
from mfu_doctor.rules.memory import RULES as MEMORY
from mfu_doctor.rules.topics import TOPICS
from mfu_doctor.rules.trace import RULES as TRACE

RULES: tuple[Rule, ...] = (
    *INPUT,
    *HOST,
    *KERNELS,
    *MEMORY,
    *COMMUNICATION,
    *DEVICE,
    *TRACE,
)

FAMILIES = {
    "IN": "input: does the device wait for data?",
    "HO": "host: does the device wait for Python?",
    "KE": "kernels: do the kernels use the chip?",
    "ME": "memory: does memory cost or leave time?",
    "CO": "communication: is communication exposed?",
    "DV": "device: is the device itself held back?",
    "TR": "trace: can this trace be trusted?",
}


def choose(rules: Iterable[Rule], *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules that `select` names (all if empty) less those that `ignore` names.

    Raises:
        DoctorError: a name, code or family that no rule has.
    """
    listed = tuple(rules)
    chosen = _named(listed, select) if select else set(listed)
    return tuple(r for r in listed if r in chosen and r not in _named(listed, ignore))


def find(name: str) -> Rule:
    """The rule with this name or code, or the one that judges what people call so (`topics`).

    Raises:
        DoctorError: there is none; the message names the nearest.
    """
    wanted = name.strip().lower().replace("_", "-")
    for rule in RULES:
        if wanted in (rule.name, rule.code.lower(), *TOPICS.get(rule.name, ())):
            return rule
    raise _unknown(name, RULES)


def _named(rules: tuple[Rule, ...], names: Sequence[str]) -> set[Rule]:
    found: set[Rule] = set()
    for name in names:
        wanted = name.strip().lower()
        matching = {r for r in rules if wanted in (r.name, r.code.lower(), r.code[:2].lower())}
        if not matching and wanted.upper() not in FAMILIES:
            raise _unknown(name, rules)
        found |= matching
    return found


def _unknown(name: str, rules: tuple[Rule, ...]) -> DoctorError:
    known = [spelling for r in rules for spelling in (r.name, r.code, *TOPICS.get(r.name, ()))]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "mfu-doctor explain lists all rules"
    return DoctorError(f"no rule is called {name!r}", hint)
