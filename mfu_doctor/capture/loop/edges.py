"""What the step detector answers: what to do with the running step at this moment; and what it found the steps from."""

from __future__ import annotations

from enum import Enum


class Source(Enum):
    """What the steps were found from; the value is what `Facts.step_source` holds. The weakest one comes first."""

    BLOCK = "block"
    MODULE = "module call"
    FETCH = "fetch"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    EXPLICIT = "step()"


class Edge:
    """What to do at this moment, in this order: bits of an int (an `enum.Flag` costs microseconds in every step)."""

    NOTHING = 0
    RESTART = 1  # steps counted so far were no steps (a better source appeared): forget them
    VOID = 2  # the running step is no step: forget its time
    END = 4  # the running step ends
    BEGIN = 8  # a step begins
    HOLD = 16  # the running step is over, its cut follows at the next fetch: take the time now
    PAUSE = 32  # the loop does something else now (evaluation): what records closes
    MOVED = 64  # the loop is another one: with RESTART, its work is another one too


CUT = Edge.END | Edge.BEGIN
