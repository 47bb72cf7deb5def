"""Statistics and checks within a step: what only the program reads, and neither the loss nor an update needs.

A trace does not say which operator reads whose result. Three things together do: the operators have no node that backward runs,
although operators around them have; they end in a read (item()); and either what is read can be nothing else (a NaN check, a
standard deviation, an accuracy), or all of it happens in a hook of a module, where a histogram is an end, too. What tensors
are written out with, as text, is read element by element, and is for people alone.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.backward import in_backward, in_graph, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Rows, topmost
from mfu_doctor.analysis.names.vocabulary import LABEL, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category

# What each outermost operator is to a statistic, by a letter; the first that fits. A line of them is searched for patterns.
_STOP, _OTHER = "|", "O"
_LETTERS = (
    ("I", re.compile(r"^aten::(item|is_nonzero|_local_scalar_dense)$")),
    ("C", re.compile(r"^aten::(isnan|isinf|isfinite|isposinf|isneginf)$")),
    ("H", re.compile(r"^aten::(histc|histogram)$")),
    ("S", re.compile(r"^aten::((nan)?(median|quantile)|kthvalue|(std|var)(_mean)?)$")),
    ("A", re.compile(r"^aten::(any|all|logical_\w*[a-z]|bitwise_(not|or|and)|__(or|and)__)$")),
    ("R", re.compile(r"^aten::(sum|mean)$")),
    ("X", re.compile(r"^aten::(argmax|topk)$")),
    ("E", re.compile(r"^aten::eq$")),
    (
        "V",
        re.compile(
            r"^aten::(detach|alias|view|_unsafe_view|view_as|reshape|flatten|select|slice|(un)?squeeze|expand(_as)?|t|transpose"
            r"|permute|contiguous|to|_to_copy)$"
        ),
    ),
    (_OTHER, re.compile(r"^aten::__\w+__$")),
    (_STOP, re.compile(r"\w_$")),  # writes into something that may be needed
)
_LAYER = re.compile(
    r"^aten::(linear|addmm|mm|bmm|baddbmm|matmul|einsum|conv\w*|_conv\w*|lstm\w*|gru\w*|rnn\w*|embedding\w*"
    r"|scaled_dot_product_attention|\w*(layer|batch|group)_norm)$"
)
# A spread, a check or an accuracy that is read at once: what is computed for it is needed for nothing else.
_READ_AT_ONCE = re.compile(r"[SH]V*I|C[CAVR]*I|XV*E[VR]*I")
# What a hook reads, or a histogram, which no layer needs. A quantile may be what its output is clipped to.
# str(), repr(), format() and print() of a tensor all end here, in whatever a progress bar or a logger hides them.
WRITES_TEXT = "torch/_tensor_str.py"
_TEXT = re.compile(r"W+")  # operators that write tensors as text
_FOR_THE_PROGRAM = re.compile(rf"[^{re.escape(_STOP)}]*[IH]")


class Stretches(Struct, frozen=True):
    """Operators of the training thread that follow one another.

    Attributes:
        rows: the outermost operators, shape (n,).
        inside: their host time in nanoseconds, without the gaps between them.
        where: the same with the gaps inside a stretch.
    """

    rows: Rows
    inside: Intervals
    where: Intervals


class Diagnostics(Struct, frozen=True):
    """Statistics and checks that the program reads in its steps.

    Attributes:
        sure: what a read value certainly is computed from, or all that a hook does up to its last read or histogram.
        likely: this, and what the same functions compute before.
        most: what does most of it: hooks of modules, writing tensors as text, or other code.
    """

    sure: Stretches
    likely: Stretches
    most: Literal["hooks", "text", "other"]


class _Line(Struct, frozen=True):
    """The outermost operators of the training thread outside backward, in time order.

    Attributes:
        rows: their rows, shape (n,).
        text: their letters, with stops where another phase lies between two of them.
        at: where in the text each of them stands, shape (n,).
    """

    rows: Rows
    text: str
    at: Rows

    def found(self, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
        """First and last operator of each match."""
        edges = [match.span() for match in pattern.finditer(self.text)]
        return [(int(np.searchsorted(self.at, a)), int(np.searchsorted(self.at, b - 1))) for a, b in edges]


@once
def diagnostics_of(run: Run) -> Diagnostics | None:
    """Statistics and checks of a run that trains; None if it has none."""
    rows = _outermost_operators(run)
    needed = in_graph(run, rows)
    if not needed.any():
        return None
    names = run.trace.events.name[rows]
    letter = _letters(run)[names]
    layer = np.isin(rows, rows_matching(run.trace, _LAYER, rows))
    line = _line(run, rows, np.where(needed | layer, _STOP, letter))
    read = line.found(_READ_AT_ONCE)
    if not np.isin(letter, ("I", "H")).any():
        return None
    hooked, written = run.user_code.in_hooks(rows), run.user_code.called_from(rows, WRITES_TEXT)
    if not read and not hooked.any() and not written.any():
        return None
    text = _line(run, rows, np.where(written & ~needed, "W", _STOP)).found(_TEXT)
    places = np.array([place or "" for place in run.places(rows)])
    pure = (places != "") & ~np.isin(places, places[needed])
    hooks = _line(run, rows, np.where(hooked & pure & ~needed, letter, _STOP)).found(_FOR_THE_PROGRAM)
    sure = _joined(len(rows), [*read, *hooks, *text])
    if not sure:
        return None
    before = [_before(line, first, last, np.where(pure, places, "")) for first, last in read]
    half = _lasting(run, rows, sure) / 2
    return Diagnostics(
        _stretches(run, rows, sure),
        _stretches(run, rows, _joined(len(rows), [*before, *sure])),
        "text" if _lasting(run, rows, text) > half else "hooks" if _lasting(run, rows, hooks) > half else "other",
    )


def takes_most(run: Run, where: Intervals) -> bool:
    """Whether more than half of this host time lies in such statistics and checks."""
    found = diagnostics_of(run)
    return found is not None and 2 * (found.sure.where & where).total_ns > where.total_ns


def _outermost_operators(run: Run) -> Rows:
    """Operators of the training thread that are in no other operator, in time order."""
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.track[rows] == run.host.main_track]
    rows = rows[~np.isin(rows, rows_matching(run.trace, LABEL, rows))]
    rows = rows[~in_backward(run, rows)]
    rows = without(rows, node_calls(run, rows))
    rows = rows[~run.optimizer_steps.own.contains(run.trace.events.start[rows])]
    outer: Rows = rows[topmost(run, rows) == rows]
    return outer


def _letters(run: Run) -> npt.NDArray[np.str_]:
    """The letter of each name of the trace."""
    told = [next((letter for letter, named in _LETTERS if named.search(name)), _OTHER) for name in run.trace.names]
    return np.array(told, "U1")


def _line(run: Run, rows: Rows, letters: npt.NDArray[np.str_]) -> _Line:
    crossed = np.diff(np.searchsorted(_borders(run), run.trace.events.start[rows], side="right"), prepend=0) > 0
    text = "".join(
        _STOP + letter if stop else letter for stop, letter in zip(crossed.tolist(), letters.tolist(), strict=True)
    )
    return _Line(rows, text, np.cumsum(crossed + 1) - 1)


def _borders(run: Run) -> Rows:
    """When a step begins, data is loaded, backward runs a node, or an optimizer begins to update."""
    start = run.trace.events.start
    nodes = node_calls(run, run.trace.rows(Category.CPU_OP))
    return distinct(
        np.concatenate((start[nodes], start[run.host.fetch_rows], run.optimizer_steps.own.start, run.steps.host_start))
    )


def _before(line: _Line, first: int, last: int, places: npt.NDArray[np.str_]) -> tuple[int, int]:
    """From the first operator on that the same function issues in a row; `places`: "" where a function is needed too."""
    here = places[first]
    while first > 0 and here and places[first - 1] == here and line.text[line.at[first] - 1] != _STOP:
        first -= 1
    return first, last


def _joined(count: int, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint spans that cover the same operators; spans that follow one another stay apart."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, min(last, count - 1)))
    return out


def _stretches(run: Run, rows: Rows, spans: list[tuple[int, int]]) -> Stretches:
    start, end = run.trace.events.start, run.trace.events.end
    mine = np.concatenate([rows[first : last + 1] for first, last in spans])
    edges = np.array(spans, np.int64).reshape(-1, 2)
    return Stretches(mine, union(start[mine], end[mine]), union(start[rows[edges[:, 0]]], end[rows[edges[:, 1]]]))


def _lasting(run: Run, rows: Rows, spans: list[tuple[int, int]]) -> int:
    return _stretches(run, rows, spans).inside.total_ns if spans else 0
