"""A function of torch's replaced by one of ours that calls it, and put back if it is still ours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mfu_doctor.capture.loop.dynamo import leave_alone


def _nothing() -> None:
    """There is nothing to put back."""


def patch(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[], None]:
    """Replace a function of a class or module, if it has one of this name.

    Args:
        owner: the class or module itself; what it inherits stays.
        name: of the function.
        wrap: makes the replacement, of the original.

    Returns:
        What puts the original back, unless somebody else has replaced ours since.
    """
    original = owner.__dict__.get(name)
    if original is None:
        return _nothing
    replacement = functools.wraps(original)(wrap(original))
    leave_alone(replacement, inside=False)
    setattr(owner, name, replacement)

    def restore() -> None:
        if owner.__dict__.get(name) is replacement:
            setattr(owner, name, original)

    return restore
