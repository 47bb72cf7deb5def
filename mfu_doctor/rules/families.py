"""The families of rules: each is a question about where the time goes, and has one folder next to this file.

The letters of a rule's code name its family, so a rule states it once; `rule` checks that the file lies in that folder.
"""

from __future__ import annotations

from enum import Enum, unique


@unique
class Family(Enum):
    """A family, in the order in which reports and lists show them.

    Attributes:
        letters: the first two letters of the codes of its rules.
        question: what its rules answer.
    """

    INPUT = ("IN", "does the device wait for data?")
    HOST = ("HO", "does the device wait for the CPU?")
    KERNELS = ("KE", "are the kernels efficient?")
    MEMORY = ("ME", "is time lost because memory is full, or is memory unused?")
    COMMUNICATION = ("CO", "does the device wait for communication?")
    RANKS = ("RA", "do ranks wait for each other?")
    DEVICE = ("DV", "is the device itself slowed down?")
    TRACE = ("TR", "can this trace be trusted?")

    def __init__(self, letters: str, question: str) -> None:
        self.letters = letters
        self.question = question

    @property
    def folder(self) -> str:
        """Name of the folder that its rules lie in."""
        return self.name.lower()


def family_of(code: str) -> Family:
    """The family that a rule's code names.

    Raises:
        ValueError: no family has these letters.
    """
    for family in Family:
        if code.startswith(family.letters):
            return family
    raise ValueError(f"invalid code {code!r}: it must begin with one of {', '.join(f.letters for f in Family)}")


def family_named(word: str) -> Family | None:
    """The family with these letters or this name; None if there is none."""
    wanted = word.strip().lower()
    return next((family for family in Family if wanted in (family.letters.lower(), family.folder)), None)
