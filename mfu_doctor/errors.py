"""The one error type a user sees: a sentence, a remedy, an exit code.

Everything the package raises on purpose is a `DoctorError`, so a caller can catch one name and the command line can print
one line instead of a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

LONGEST_PART = 500  # characters: file names, keys and values of any length come from outside


class DoctorError(Exception):
    """A problem with the input or the options, with what to do about it.

    Args:
        problem: one sentence, subject first, without a trailing full stop.
        remedy: what the user can do, as an imperative sentence; may be empty.
        exit_code: process exit status of the command line (2: unusable input or options).
    """

    def __init__(self, problem: str, remedy: str = "", *, exit_code: int = 2) -> None:
        self.problem = shortened(problem)
        self.remedy = shortened(remedy)
        self.exit_code = exit_code
        super().__init__(f"{self.problem}: {self.remedy}" if remedy else self.problem)


class NotATraceError(DoctorError):
    """The input is not a PyTorch profiler trace (or not one of our reports)."""


def shortened(text: str) -> str:
    """The beginning and the end of a text that is too long for a sentence."""
    half = LONGEST_PART // 2
    return text if len(text) <= LONGEST_PART else f"{text[:half]} ... {text[-half:]}"


def suggest(word: str, known: Sequence[str], *, otherwise: str = "") -> str:
    """A remedy for a word that is not known: the one that it is most like, else `otherwise`, else all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise or f"use one of {', '.join(known)}"
