"""Which operators run in backward: those inside an autograd node that the engine calls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.steady_steps import Rows, under
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run


def node_calls(run: Run, rows: Rows) -> Rows:
    """Those rows that are the engine's call of a node, shape (k,)."""
    return rows_matching(run.trace, NODE_CALL, rows)


def in_backward(run: Run, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether each row runs inside a node of backward; the outermost call of a node does not; shape of `rows`."""
    inside: npt.NDArray[np.bool_] = under(run, rows, NODE_CALL) >= 0
    return inside
