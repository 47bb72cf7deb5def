"""How a check over many things fails: with all that is wrong at once, a line each that says what to do."""

from __future__ import annotations

from collections.abc import Iterable


def expect_none(problems: Iterable[str]) -> None:
    """Fail with all of them."""
    __tracebackhide__ = True
    found = list(problems)
    assert not found, "\n".join(["", *found])
