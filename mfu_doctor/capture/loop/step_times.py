"""Times of all un-profiled steps of a run, in bounded memory, for about a microsecond per step.

The latest steps are kept one by one. All of them are kept as sums over equal numbers of consecutive steps, so that a beginning
that is unlike the rest can be told apart however long the run is.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from statistics import median

from msgspec import Struct, field

from mfu_doctor.facts.whole_run import LONG_STEP
from mfu_doctor.units import NS_PER_S

_LATEST = 4096  # steps kept one by one, 64 kB
_CELLS = 256  # sums kept; when they are full, pairs are added up
_USUAL_OF = 64  # latest steps that say what a usual one takes; also how often that is asked
_FIRST_USUAL = 4


class StepTimes(Struct):
    """Everything known about the un-profiled steps so far.

    Attributes:
        count: steps.
        total_ns: their time.
        usual_ns: median of the latest ones; 0 before there are some.
        long: steps longer than LONG_STEP times the usual one.
        long_ns: what they took more than it.
    """

    count: int = 0
    total_ns: int = 0
    usual_ns: int = 0
    long: int = 0
    long_ns: int = 0
    _steps: array[int] = field(default_factory=lambda: array("q"))
    _waits: array[int] = field(default_factory=lambda: array("q"))
    _cells: list[int] = field(default_factory=list)
    _cell_size: int = 1
    _cell: int = 0
    _in_cell: int = 0

    def add(self, took_ns: int, waited_ns: int) -> None:
        """A step that took so long, of which it waited so long for its batches."""
        before, usual = self.count, self.usual_ns
        count = self.count = before + 1
        if before < _LATEST:
            self._steps.append(took_ns)
            self._waits.append(waited_ns)
        else:
            at = before % _LATEST
            self._steps[at], self._waits[at] = took_ns, waited_ns
        self.total_ns += took_ns
        if usual and took_ns > LONG_STEP * usual:
            self.long += 1
            self.long_ns += took_ns - usual
        if count % _FIRST_USUAL == 0 and (count < _USUAL_OF or count % _USUAL_OF == 0):
            self.usual_ns = int(median(self._latest(_USUAL_OF)))
        self._cell += took_ns
        self._in_cell += 1
        if self._in_cell == self._cell_size:
            self._close_cell()

    def startup(self, skipped: int) -> tuple[int, int]:
        """How many leading steps are the run's beginning, and the nanoseconds that they took more than usual ones.

        Args:
            skipped: steps that are its beginning in any case.
        """
        cells = self._cells
        leading = _leading([total / self._cell_size for total in cells])
        steps = max(leading * self._cell_size, min(skipped, self.count // 2))
        whole, rest = divmod(steps, self._cell_size)
        part = cells[whole] * rest // self._cell_size if rest and whole < len(cells) else 0
        usual = self._usual(steps)
        slow = sum(cells[:whole]) + part - self._beyond(skipped, steps)[1] - steps * usual
        return steps, max(slow, 0) if usual else 0

    def settled(self, startup: int, most: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Seconds of the latest consecutive steps after the beginning, and of their waits for data; `most` at most."""
        many = min(self.count - startup, most, _LATEST)
        if many <= 0:
            return (), ()
        at = self.count % _LATEST if self.count > _LATEST else 0
        steps, waits = (row[at:] + row[:at] for row in (self._steps, self._waits))
        return tuple(ns / NS_PER_S for ns in steps[-many:]), tuple(ns / NS_PER_S for ns in waits[-many:])

    def course(self, startup: int, most: int) -> tuple[int, int, tuple[int, ...]]:
        """What a usual step took as the run went on: its parts are of equal numbers of consecutive steps.

        Args:
            startup: leading steps that are the beginning.
            most: parts, but for fewer than as many again.

        Returns:
            The first step of the first part, the steps of each, and the usual nanoseconds of a step in each: the median, or the
            mean in a run too long to keep all steps.
        """
        if self.count <= _LATEST:
            kept = self._steps[startup:]
            size = max(len(kept) // most, 1)
            firsts = range(0, len(kept) - size + 1, size)
            return startup, size, tuple(int(median(kept[first : first + size])) for first in firsts)
        size = self._cell_size
        first = -(-startup // size)
        return first * size, size, tuple(total // size for total in self._cells[first:])

    def beyond(self, startup: int, skipped: int) -> tuple[int, int]:
        """Steps that are long, and the nanoseconds that they take more than the usual one.

        Compared with those around it, of the beginning or of the rest; in a run too long to keep them with the median of those
        just before. So steps that grow over the run are not long. The first `skipped` steps are not judged.
        """
        if self.count > _LATEST:
            return self.long, self.long_ns
        early, later = self._beyond(skipped, startup), self._beyond(startup, self.count)
        return early[0] + later[0], early[1] + later[1]

    def _beyond(self, first: int, stop: int) -> tuple[int, int]:
        steps = self._steps[first:stop] if self.count <= _LATEST else ()
        excess = [ns - usual for ns, usual in zip(steps, _usual_around(steps), strict=True) if ns > LONG_STEP * usual]
        return len(excess), sum(excess)

    def _usual(self, startup: int) -> int:
        """The median of the steps after the beginning, as far as they are kept."""
        later = self._steps[startup:] if self.count <= _LATEST else self._steps
        return int(median(later)) if later else 0

    def _latest(self, many: int) -> Sequence[int]:
        """The latest steps in any order."""
        if self.count <= many or self.count <= _LATEST:
            return self._steps[-many:]
        at = self.count % _LATEST
        return self._steps[max(at - many, 0) : at] or self._steps[-many:]

    def _close_cell(self) -> None:
        self._cells.append(self._cell)
        self._cell = self._in_cell = 0
        if len(self._cells) == _CELLS:
            self._cells = [sum(self._cells[i : i + 2]) for i in range(0, _CELLS, 2)]
            self._cell_size *= 2


def _usual_around(steps: Sequence[int]) -> list[int]:
    """For each step the median of the steps around it: the longest of its block's and the two next to it.

    Where steps fall back to their beginning, the block before still says what they took.
    """
    blocks = [int(median(steps[i : i + _USUAL_OF])) for i in range(0, len(steps), _USUAL_OF)]
    around = [max(blocks[max(i - 1, 0) : i + 2]) for i in range(len(blocks))]
    return [around[i // _USUAL_OF] for i in range(len(steps))]


def _leading(means: Sequence[float]) -> int:
    """How many leading cells are the beginning: most are long compared with the second half, and the last one is as most are.

    At most half of all. A run whose every fourth step is long has no such beginning.
    """
    half = len(means) // 2
    if not half:
        return 0
    long = LONG_STEP * median(means[half:])
    for many in range(half, 0, -1):
        usual = median(means[:many])
        if usual > long and long < means[many - 1] <= LONG_STEP * usual:
            return many
    return 0
