"""Which loops of the program a call is made in, read from the bytecode of the frames on the stack. Nothing is run or kept."""

from __future__ import annotations

import dis
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TypeAlias

Loop: TypeAlias = tuple[str, int, int]
"""File and first line of the function, and the offset at which a round of the loop begins."""

_DEEPEST = 64  # frames; loops further out are of launchers and notebooks
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))


def loops_around(frame: FrameType | None, skipped: Callable[[str], bool]) -> tuple[Loop, ...]:
    """The loops around the running call of this frame and of its callers, innermost first.

    Args:
        frame: the innermost frame.
        skipped: whether the loops of a file are not the program's.
    """
    found: list[Loop] = []
    for _ in range(_DEEPEST):
        if frame is None:
            break
        code = frame.f_code
        if not skipped(code.co_filename):
            found += ((code.co_filename, code.co_firstlineno, head) for head in _heads(code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _heads(code: CodeType, at: int) -> list[int]:
    """Where the loops of a function begin that contain this instruction, innermost first."""
    last: dict[int, int] = {}  # the last jump back to the head of each loop: `continue` is one too
    for step in dis.get_instructions(code):
        if step.opcode in _JUMPS and step.argval <= step.offset:
            last[step.argval] = max(last.get(step.argval, 0), step.offset)
    return sorted((head for head, end in last.items() if head <= at <= end), reverse=True)
