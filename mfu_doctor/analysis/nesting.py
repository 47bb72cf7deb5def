"""Which operator encloses which: the parent of each operator, annotation and runtime call on its thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class OpTree:
    """`parent[row]` is the event row of the enclosing operator, annotation or call on the same thread, else -1.

    Shape (number of events,). Python frames, overhead and device events are not nested (parent -1).
    """

    parent: npt.NDArray[np.int32]

    def ancestors(self, row: int) -> list[int]:
        """Rows from the parent of `row` outwards."""
        out: list[int] = []
        up = int(self.parent[row])
        while up >= 0:
            out.append(up)
            up = int(self.parent[up])
        return out
