"""Every rule, family by family, and how a user selects them: by name, by code, by family, or by another common name of the fault.

Each family's folder lists its own rules in an explicit tuple, not by a directory scan, so go-to-definition works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.rules.communication import RULES as COMMUNICATION
from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.device import RULES as DEVICE
from mfu_doctor.rules.families import Family, family_named
from mfu_doctor.rules.host import RULES as HOST
from mfu_doctor.rules.input import RULES as INPUT
from mfu_doctor.rules.kernels import RULES as KERNELS
from mfu_doctor.rules.memory import RULES as MEMORY
from mfu_doctor.rules.trace import RULES as TRACE

if TYPE_CHECKING:
    from mfu_doctor.rules.job_contract import JobRule

RULES: tuple[Rule, ...] = (
    *INPUT,
    *HOST,
    *KERNELS,
    *MEMORY,
    *COMMUNICATION,
    *DEVICE,
    *TRACE,
)
AnyRule: TypeAlias = "Rule | JobRule"
R = TypeVar("R", bound="AnyRule")

if TYPE_CHECKING:
    JOB_RULES: tuple[JobRule, ...]
    EVERY_RULE: tuple[AnyRule, ...]


def __getattr__(name: str) -> Any:
    """Rules that are asked about all ranks of a run together, and all rules: who reports on one rank needs to load neither."""
    if name not in ("JOB_RULES", "EVERY_RULE"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mfu_doctor.rules.ranks import RULES as RANKS

    both: tuple[AnyRule, ...] = (*RULES, *RANKS)
    together = tuple(sorted(both, key=lambda rule: list(Family).index(rule.family)))
    return RANKS if name == "JOB_RULES" else together  # those of each family together


def _every_rule() -> tuple[AnyRule, ...]:
    found: tuple[AnyRule, ...] = __getattr__("EVERY_RULE")
    return found


# Codes of removed rules. Saved reports contain them, so no other rule may use them.
RETIRED = frozenset(("HO006", "IN008", "KE025", "KE041", "KE042", "ME004"))


def choose(rules: Iterable[R], *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[R, ...]:
    """The rules that `select` names (all if empty), without those that `ignore` names.

    Raises:
        DoctorError: a word that names no rule and no family.
    """
    listed = tuple(rules)
    chosen = _named(listed, select) if select else set(listed)
    return tuple(r for r in listed if r in chosen and r not in _named(listed, ignore))


def find(name: str) -> AnyRule:
    """The rule with this name, code or other common name.

    Raises:
        DoctorError: there is none; the message suggests the nearest name.
    """
    every = _every_rule()
    for rule in every:
        if _is_called(rule, name):
            return rule
    raise _unknown(name, every)


def key_of(word: str) -> str:
    """The name of the rule, or the letters of the family, that a user calls so.

    Raises:
        DoctorError: it names no rule and no family.
    """
    family = family_named(word)
    return find(word).name if family is None else family.letters


def _is_called(rule: AnyRule, word: str) -> bool:
    return word.strip().lower().replace("_", "-") in (rule.name, rule.code.lower(), *rule.also)


def _named(rules: tuple[R, ...], words: Sequence[str]) -> set[R]:
    found: set[R] = set()
    for word in words:
        family = family_named(word)
        matching = {r for r in rules if _is_called(r, word) or r.family is family}
        if not matching and family is None:
            find(word)  # a rule about other things than these is no mistake
        found |= matching
    return found


def _unknown(name: str, rules: tuple[AnyRule, ...]) -> DoctorError:
    known = [spelling for r in rules for spelling in (r.name, r.code, *r.also)]
    known += [spelling for family in Family for spelling in (family.letters, family.folder)]
    return DoctorError(
        f"there is no rule {name!r}", suggest(name, known, otherwise="mfu-doctor explain lists all rules")
    )
