"""A function of torch's replaced by one of ours that calls it, and put back if it is still ours.

A recorder and a meter may both look at one function, and either may go first. So the layers of one function are kept together,
and what is called is built anew from those that are left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct, field

from mfu_doctor.capture.loop.dynamo import leave_alone

Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def _nothing() -> None:
    """There is nothing to put back."""


class _Patched(Struct):
    """One function with our layers around it."""

    owner: Any
    name: str
    original: Callable[..., Any]
    wraps: list[Wrap] = field(default_factory=list)
    current: Callable[..., Any] | None = None

    @property
    def stands(self) -> bool:
        """Whether nobody has replaced ours since."""
        return self.owner.__dict__.get(self.name) is self.current

    def build(self) -> None:
        """Put the layers that there are around the original."""
        function = self.original
        for wrap in self.wraps:
            function = functools.wraps(self.original)(wrap(function))
            leave_alone(function, inside=False)
        self.current = function
        setattr(self.owner, self.name, function)

    def remove(self, wrap: Wrap) -> None:
        """One layer less."""
        if wrap in self.wraps:
            stood = self.stands
            self.wraps.remove(wrap)
            if stood:
                self.build()


_patched: dict[tuple[int, str], _Patched] = {}


def patch(owner: Any, name: str, wrap: Wrap) -> Callable[[], None]:
    """Replace a function of a class or module, if it has one of this name.

    Args:
        owner: the class or module itself; what it inherits stays.
        name: of the function.
        wrap: makes the replacement, of what it is to call.

    Returns:
        What takes the replacement off again, unless somebody else has replaced it since.
    """
    original = owner.__dict__.get(name)
    if original is None:
        return _nothing
    known = _patched.get((id(owner), name))
    if known is None or not known.stands or not known.wraps:
        known = _patched[id(owner), name] = _Patched(owner, name, original)
    known.wraps.append(wrap)
    known.build()
    return functools.partial(known.remove, wrap)
