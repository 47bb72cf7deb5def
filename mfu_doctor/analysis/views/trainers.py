"""Functions of libraries that train: the steps run inside of them, as inside of `trainer.fit()`.

A sample of the thread names the innermost line of the program. While a trainer saves or logs, that is the line that calls the
trainer, which is the training as a whole. Which functions are trainers is told by the stacks: a step begins inside of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_SPAN, rows_matching
from mfu_doctor.analysis.views.source_lines import FRAME
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Category, Trace

Int64 = npt.NDArray[np.int64]

_FRAMEWORK = "torch"  # `loss.backward()` and `optimizer.step()` are lines of a step


def training_starts(trace: Trace) -> Int64:
    """Starts of backward nodes, optimizer steps and resets of gradients, sorted."""
    nodes = rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP))
    steps = rows_matching(trace, OPTIMIZER_SPAN, trace.rows(Category.CPU_OP, Category.ANNOTATION))
    found: Int64 = np.sort(trace.events.start[np.concatenate((nodes, steps))])
    return found


def trainers_of(trace: Trace) -> frozenset[str]:
    """Of the functions that sampled lines call, as in `FrameSample.call`: those inside of which a step was recorded."""
    facts = trace.facts
    called = {sample.call for sample in facts.frames} if facts is not None else set()
    if facts is not None and facts.course is not None:
        called |= {line.call for line in facts.course.lines}
    known = {name: call for name, frame in enumerate(trace.names) if (call := _call_of(frame)) in called}
    rows = trace.frames(np.array(list(known), np.int64))
    starts = training_starts(trace)
    within = np.searchsorted(starts, trace.events.end[rows]) > np.searchsorted(starts, trace.events.start[rows])
    return frozenset(call for name in distinct(trace.events.name[rows[within]]).tolist() if (call := known[name]))


def _call_of(frame: str) -> str | None:
    """The function of a frame with the package that it is of: "lightning.fit"; None for PyTorch's own."""
    match = FRAME.match(frame)
    if match is None:
        return None
    package = match["file"].split("/", 1)[0]
    return None if package == _FRAMEWORK else f"{package}.{match['function']}"
