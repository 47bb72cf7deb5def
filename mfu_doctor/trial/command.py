"""The command that starts the user's program with our child process in the place of Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from mfu_doctor.errors import DoctorError

VERB = "trial"  # of the command line, hidden
_LAUNCHER = "torch.distributed.run"


class Program(Struct, frozen=True):
    """The program that is tried.

    Attributes:
        words: a script, or "-m" and a module, and its arguments.
        launch: options of torchrun, if that starts it; None: it is started alone.
    """

    words: tuple[str, ...]
    launch: tuple[str, ...] | None = None

    @classmethod
    def of(cls, given: Sequence[str]) -> Program:
        """What the user wrote after our options.

        Raises:
            DoctorError: it names no program.
        """
        launched = _after_torchrun(given)
        if launched is not None:
            from mfu_doctor.capture.launcher import split_launch

            options, words = split_launch(launched)
            return cls(_checked(words), tuple(options))
        return cls(_checked(given))

    @property
    def script(self) -> Path | None:
        """The file of the script; None of a module."""
        return None if self.words[0] == "-m" else Path(self.words[0])

    def command(self, orders: Path) -> list[str]:
        """The words that start it with these orders."""
        ours = ["-m", "mfu_doctor", VERB, str(orders), *self.words]
        launch = [] if self.launch is None else ["-m", _LAUNCHER, *self.launch]
        return [sys.executable, *launch, *ours]

    def __str__(self) -> str:
        """As the user would type it."""
        launch = () if self.launch is None else ("torchrun", *self.launch)
        return " ".join((*launch, *self.words))


def _after_torchrun(given: Sequence[str]) -> Sequence[str] | None:
    if given and Path(given[0]).name == "torchrun":
        return given[1:]
    if list(given[:2]) == ["-m", _LAUNCHER]:
        return given[2:]
    return None


def _checked(words: Sequence[str]) -> tuple[str, ...]:
    module = bool(words) and words[0] == "-m"
    named = words[1:] if module else words
    if not named:
        raise DoctorError("no program is named", "write the script, or -m and a module, after the options")
    if named[0].startswith("-"):
        raise DoctorError(f"unknown option {named[0]}", "write the options of mfu-doctor try before the script")
    if not module and not Path(named[0]).exists():
        raise DoctorError(f"cannot read {named[0]}", "pass the path of a Python script")
    return tuple(words)
