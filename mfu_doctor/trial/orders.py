"""What a child process is told, and what it answers: small files in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from mfu_doctor.files import write_file
from mfu_doctor.json_text import json_bytes

ORDERS, RESULT, ALIVE, STEPS, OUTPUT = "orders.json", "result.json", "alive", "steps", "output.txt"
"""The names in the folder: the orders, the answer, a pipe that the parent holds open, steps so far, what the program printed."""

TRACE = "recorded.pt.trace.json.gz"
VARIABLE = "MFU_DOCTOR_TRIAL"
"""Environment variable that is "1" in every process of a trial, so that a script can recognise it."""

TOKEN = "MFU_DOCTOR_TRIAL_TOKEN"  # noqa: S105 - names the processes of one child, opens nothing
"""Environment variable that tells the processes of one child from all others."""


class Orders(Struct, frozen=True):
    """What to do.

    Attributes:
        folder: where the files are.
        remedies: names of what to apply, in this order.
        steps: how many steps to see before the process is over.
        source: what the steps were found from when the program was recorded; None: not known.
        records: whether to record the program instead of measuring it.
        skipped: leading steps that are its beginning.
        longest_s: seconds after which the steps behind those are enough, though they are few; None: all are to be seen.
    """

    folder: str
    remedies: tuple[str, ...] = ()
    steps: int = 0
    source: str | None = None
    records: bool = False
    skipped: int = 0
    longest_s: float | None = None

    def write(self) -> Path:
        """Write them into their folder."""
        path = Path(self.folder) / ORDERS
        write_file(path, json_bytes(self))
        return path


class Measured(Struct, frozen=True):
    """What a child measured.

    Attributes:
        steps_s: seconds of each step, the first ones included.
        first_s: seconds from the start of the program until its first step had ended.
        losses: of each step that has one, the value on which `backward()` was called last.
        loss_steps: the number of the step that each belongs to.
        effects: names, without settings, of the remedies that changed something in what the program does.
        notes: what could not be measured.
    """

    steps_s: tuple[float, ...]
    first_s: float
    losses: tuple[float | None, ...] = ()  # None: not a number
    loss_steps: tuple[int, ...] = ()
    effects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def ready_s(self, skipped: int) -> float:
        """Seconds from the start of the program until so many steps had ended."""
        return self.first_s + sum(self.steps_s[1:skipped])


def read_orders(path: str) -> Orders:
    """The orders in a file."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Orders)


def read_result(folder: Path) -> Measured | None:
    """What the child answered; None if it has not."""
    try:
        return msgspec.json.decode((folder / RESULT).read_bytes(), type=Measured)
    except FileNotFoundError:
        return None
