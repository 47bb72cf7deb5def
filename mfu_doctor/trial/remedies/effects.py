"""Which remedies took effect in this process: a patch may wait for a class that the program never makes.

Without this, "no difference" would be said of a fix that was never applied.
"""

from __future__ import annotations

from collections.abc import Callable

_TOOK: set[str] = set()
_HELD: dict[str, Callable[[], bool]] = {}


def took_effect(name: str) -> None:
    """A remedy changed something in what the program does."""
    _TOOK.add(name)


def takes_effect_while(name: str, holds: Callable[[], bool]) -> None:
    """A remedy set a switch, which counts if it is still so when the effects are read: the program may set it itself."""
    _HELD[name] = holds


def effects() -> frozenset[str]:
    """Names (without settings) of the remedies that took effect; read it when the steps are measured."""
    return frozenset(_TOOK | {name for name, holds in _HELD.items() if holds()})
