"""Hides our own tensor operations from the torch modes of the user.

A user may run the loop inside a torch mode: a FLOP counter, a logger of operators, fake tensors. It would also count, log or fake
what we read or measure, which changes the user's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self


@contextmanager
def without_user_modes() -> Iterator[None]:
    """No torch-function or torch-dispatch mode of the user sees what happens inside, as far as this torch lets us hide."""
    with _hiding():
        yield


def _hiding() -> ExitStack:
    """The functions that hide our operations. They are private: if a torch version has moved one, nothing is hidden or raised."""
    stack = ExitStack()
    try:
        import torch
        from torch.utils._python_dispatch import _disable_current_modes

        stack.enter_context(torch._C.DisableTorchFunction())  # noqa: SLF001 - no public name exists
        if torch._C._len_torch_dispatch_stack():  # noqa: SLF001 - no public name exists
            stack.enter_context(_disable_current_modes())
    except (AttributeError, ImportError):
        stack.close()
    return stack


class IsolatedSpan:
    """A `record_function` whose two operators no mode of the user sees, while all that runs inside it is seen as ever."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._span: Any = None

    def __enter__(self) -> Self:
        from torch.autograd.profiler import record_function

        with without_user_modes():
            self._span = record_function(self._name)
            self._span.__enter__()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with without_user_modes():
            self._span.__exit__(None, None, None)
