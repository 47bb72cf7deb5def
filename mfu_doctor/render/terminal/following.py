"""The last lines of a terminal report: the commands to go on with."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor.render.terminal.panels import INDENT, Look
from mfu_doctor.render.terminal.screen import Block, line
from mfu_doctor.render.words.pasteable import continued
from mfu_doctor.render.words.text import cells


def following(commands: Sequence[tuple[str, str]], look: Look) -> Block:
    """The next commands, each with what it gives: the first one always, the others if there is room."""
    entries = []
    for command, note in commands:
        text = f"{INDENT}{command}"
        told = f"{text}    {note}" if note and len(note) <= look.width - len(text) - 4 else text
        rows = [told] if cells(told) <= look.width else continued(command, look.width, INDENT)
        entries.append(tuple(line(row, "quiet") for row in rows))
    return Block(entries[0] if entries else (), tuple(entries[1:]), gap=True, urgency=2, hint=False)
