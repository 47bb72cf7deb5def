"""A function that trains, decorated with `@profile()`: each of its calls is a block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

from mfu_doctor.errors import DoctorError

P = ParamSpec("P")
T = TypeVar("T")

# What returns before its body has run: the block would be over before the training begins.
_LATER: dict[str, Callable[[object], bool]] = {
    "a coroutine": inspect.iscoroutinefunction,
    "an asynchronous generator": inspect.isasyncgenfunction,
    "a generator": inspect.isgeneratorfunction,
}


def in_block(block: AbstractContextManager[object], function: Callable[P, T]) -> Callable[P, T]:
    """The function, with the block around each call.

    Args:
        block: can be entered again, also while it is open.
        function: trains, and returns when it has.

    Raises:
        DoctorError: it returns before it has trained, or it is no function.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if isinstance(function, type) or not callable(function):
        raise DoctorError(f"@profile() decorates a function that trains, not {name}", "decorate its method that trains")
    later = next((kind for kind, is_one in _LATER.items() if is_one(function)), None)
    if later is not None:
        raise DoctorError(
            f"@profile() cannot decorate {name}: it is {later}, which returns before it trains",
            "write `with mfu_doctor.profile():` around the loop in it",
        )

    @functools.wraps(function)
    def decorated(*args: P.args, **kwargs: P.kwargs) -> T:
        with block:
            return function(*args, **kwargs)

    return decorated
