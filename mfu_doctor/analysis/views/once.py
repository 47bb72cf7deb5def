"""What is computed of a run or of a job is computed once, however many rules ask for it: the first answer is kept with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Protocol, TypeVar, cast


class Kept(Protocol):
    """What keeps the answers to questions about itself; it does not change, so neither do they.

    Attributes:
        answers: by the function that was asked.
    """

    answers: dict[object, object]


Asked = TypeVar("Asked", bound=Kept)
Answer = TypeVar("Answer")


def once(question: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
    """The same function, which is called once for each object that it is asked about. Nobody may change what it returns."""

    @wraps(question)
    def asked(about: Asked) -> Answer:
        if question not in about.answers:
            about.answers[question] = question(about)
        return cast("Answer", about.answers[question])

    return asked
