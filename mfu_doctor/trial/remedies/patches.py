"""Narrow patches: a function or a constructor with some of its arguments changed, that looks and is pickled like the original."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect


def replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put what `wrap` makes of a function in its place; it keeps its name, documentation and signature."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrap(original)))


def change_arguments(owner: Any, change: Callable[[dict[str, Any]], None], name: str = "__init__") -> None:
    """Let `change` edit the arguments of each call, by their names; those that the caller left out are not among them.

    A call that does not fit the signature goes through as it is, so that its error is Python's own.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return original(*args, **kwargs)
            change(given.arguments)
            return original(*given.args, **given.kwargs)

        return call

    replace(owner, name, wrap)


def switch(remedy: str, owner: Any, argument: str, *, to: bool, name: str = "__init__") -> None:
    """Set a switch among the arguments of each call from now on; where it was not so, the remedy of this name takes effect."""
    default = inspect.signature(getattr(owner, name)).parameters[argument].default

    def change(given: dict[str, Any]) -> None:
        if bool(given.get(argument, default)) is not to:
            given[argument] = to
            took_effect(remedy)

    change_arguments(owner, change, name)
