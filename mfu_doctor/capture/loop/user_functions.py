"""The functions of the user's own code on a stack, as text: where many short lines share the time, only these say so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import CodeType, FrameType

from mfu_doctor.facts.user_functions import UserFunction

_MAX_DEPTH = 200
_MOST = 6  # of one stack: a sample stays small
_LOADER = re.compile(r"torch/utils/data/(dataloader|_utils/fetch)\.py$")
# Names by which Python, numpy and torch draw random numbers.
_DRAWING = re.compile(
    r"^(random(_?state|_?\w+)?|rand(n|int|perm|range|bits|bytes|om)?(_like)?|uniform|normal|standard_normal|gauss|normalvariate"
    r"|bernoulli|multinomial|exponential|geometric|poisson|shuffle|choices?|permutation|permuted|default_rng|getrandbits)_?$",
    re.IGNORECASE,
)


class UserFunctions:
    """Reads them; each function is looked at once.

    Args:
        shown: a file as a report shows it; None for the code of a library.
        root: the function that a forked process began with.
    """

    def __init__(self, shown: Callable[[str], str | None], root: CodeType | None = None) -> None:
        self._shown, self._root = shown, root
        self._known: dict[tuple[str, int, str], UserFunction] = {}

    def on(self, frame: FrameType | None) -> tuple[UserFunction, ...]:
        """The innermost ones on this stack, innermost first, not beyond a DataLoader: what calls it is no part of loading."""
        found: dict[UserFunction, None] = {}
        for _ in range(_MAX_DEPTH):
            if frame is None or frame.f_code is self._root or len(found) == _MOST:
                break
            code = frame.f_code
            file = self._shown(code.co_filename)
            if file is None and _LOADER.search(code.co_filename):
                break
            if file is not None and not code.co_name.startswith("<"):
                found[self._of(code, file)] = None
            frame = frame.f_back
        return tuple(found)

    def _of(self, code: CodeType, file: str) -> UserFunction:
        key = code.co_filename, code.co_firstlineno, code.co_qualname
        if key not in self._known:
            name = code.co_qualname.rpartition("<locals>.")[2]
            draws = any(map(_DRAWING.search, _names(code)))
            self._known[key] = UserFunction(name, f"{file}:{code.co_firstlineno}", draws)
        return self._known[key]


def _names(code: CodeType) -> Iterator[str]:
    """What a function and the comprehensions in it name."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
