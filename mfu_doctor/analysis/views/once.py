"""What is computed of a run or of a job is computed once, however many rules ask for it: the first answer is kept with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast


class Kept(Protocol):
    """What keeps the answers to questions about itself; it does not change, so neither do they.

    Attributes:
        answers: by the function that was asked, and what else it was given.
    """

    answers: dict[object, object]


Asked = TypeVar("Asked", bound=Kept)
Answer = TypeVar("Answer")
More = ParamSpec("More")


def once(question: Callable[Concatenate[Asked, More], Answer]) -> Callable[Concatenate[Asked, More], Answer]:
    """The same function, which is called once for each object that it is asked about, and for what else it is given.

    What else it is given must be hashable. Nobody may change what it returns.
    """

    @wraps(question)
    def asked(about: Asked, /, *more: More.args, **named: More.kwargs) -> Answer:
        key = (question, more, *named.items())
        if key not in about.answers:
            about.answers[key] = question(about, *more, **named)
        return cast("Answer", about.answers[key])

    return asked
