"""Whether the cells of a loop get their inputs from a sequence that is there before the loop.

Then one call of a recurrent layer does what the loop does. Where the input is made of what the round before computed, as when a
model is fed its own predictions, nothing but the loop can do it. A trace tells names and shapes and not which tensor it was. So
an input that is taken out of something is given, and one that was joined right before the cell is taken for the model's own.
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.run import Run

CELL = re.compile(r"^aten::\w*(lstm|gru|rnn_tanh|rnn_relu)_cell\w*$")
_TAKES = re.compile(r"^aten::(select|slice|narrow|unbind|split\w*|chunk|index_select|index)$")
_JOINS = re.compile(r"^aten::(cat|stack|hstack|concat\w*|where|lerp|add|mul|argmax|multinomial|bernoulli)_?$")


def are_given(run: Run, loop: Loop) -> bool:
    """Whether nothing was joined right before the cell of a round; also where the loop has no cell."""
    names = [run.trace.name_of(row) for row in loop.rows[: 2 * (len(loop.rows) // loop.rounds)].tolist()]
    last = max((at for at, name in enumerate(names) if CELL.match(name)), default=0)
    for name in reversed(names[:last]):
        if _TAKES.match(name) or CELL.match(name):
            return True
        if _JOINS.match(name):
            return False
    return True
