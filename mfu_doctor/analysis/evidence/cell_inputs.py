"""Whether the cells of a loop get their inputs from a sequence that is there before the loop.

Then one call of a recurrent layer does what the loop does. Where the input is made of what the round before computed, as when a
model is fed its own predictions, nothing but the loop can do it. A trace tells names and shapes and not which tensor it was. So
an input that is taken out of something is given, and one that was joined or chosen right before the cell is the model's own.
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.run import Run

CELL = re.compile(r"^aten::\w*(lstm|gru|rnn_tanh|rnn_relu)_cell\w*$")
_TAKES = re.compile(r"^aten::(select|slice|narrow|unbind|split\w*|chunk|index_select|index)$")
_MAKES = re.compile(
    r"^aten::(cat|stack|hstack|concat\w*|where|lerp|add|mul|argmax|max|topk|sort|multinomial|bernoulli|softmax|_softmax)_?$"
)


def are_given(run: Run, loop: Loop) -> bool:
    """Whether nothing was joined right before the cell of a round; also where the loop has no cell."""
    size = len(loop.rows) // loop.rounds
    names = [run.trace.name_of(row) for row in loop.rows[: 2 * size].tolist()]
    cells = [at for at, name in enumerate(names) if CELL.match(name)]
    if not cells:
        return True
    last = max(cells)
    while last - 1 in cells:  # cells on top of each other
        last -= 1
    for name in reversed(names[:last]):
        if _TAKES.match(name) or CELL.match(name):
            return True
        if _MAKES.match(name):
            return False
    return True
