"""The capture boundary: an error in our own code becomes a note and never reaches the user's program.

Here are the only broad `except`s of capture. What they catch is noted. KeyboardInterrupt and SystemExit pass through: they are
the user's.

An optional fact is read inside `guarded`: its failure costs that fact. What the recording cannot go on without is done inside
`succeeds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from msgspec import Struct, field

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST = 300  # characters of a note


class Notes(Struct):
    """What could not be captured, and why; each sentence once, in order."""

    said: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        if sentence not in self.said:
            self.said.append(sentence)

    def guarded(self, what: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call something that only a fact depends on; if it fails, say "<what>: <error>" and return None."""
        try:
            return call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the run is sacred: our failure must not become the user's
            self._failed(what, error)
            return None

    def succeeds(self, what: str, call: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call something that all that follows depends on; if it fails, say so and return False."""
        try:
            call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - likewise
            self._failed(what, error)
            return False
        return True

    def _failed(self, what: str, error: Exception) -> None:
        self.say(f"{what}: {_named(error)}"[:_LONGEST])


def _named(error: Exception) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:  # noqa: BLE001 - an error of the program's, which fails to tell itself
        return kind
