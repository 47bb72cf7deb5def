"""The capture boundary: an error in our own code becomes a note and never reaches the user's program.

This is the only broad `except` of capture. It records what it caught. KeyboardInterrupt and SystemExit pass through, because they
belong to the user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Notes:
    """What could not be captured, and why; each sentence once, in order."""

    said: list[str] = field(default_factory=list)
    failures: int = 0  # of guarded calls

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        if sentence not in self.said:
            self.said.append(sentence)

    def guarded(self, what: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call something of ours; if it fails, say "<what>: <error>" and return None."""
        try:
            return call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the run is sacred: our failure must not become the user's
            self.failures += 1
            self.say(f"{what}: {type(error).__name__}: {error}"[:300])
            return None
