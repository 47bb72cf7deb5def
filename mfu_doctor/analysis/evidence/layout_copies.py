"""Copies that only change the order of a tensor's elements in memory, and which of them the next operator did not need.

What reads the result shows whether a copy is needed. Another such copy undoes or repeats it. A matmul or a pointwise
operator accepts strides, so the copy was not needed. A view does not.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import calls_of, owner_of
from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.arrays.distinct import distinct, numbered
from mfu_doctor.trace import Category, EventArgs

COPYING = re.compile(r"^aten::(contiguous|clone)$")
# Views that only change sizes and strides: what reads the copy comes after them.
_STRIDED_VIEW = re.compile(
    r"^aten::(t|transpose|permute|mT|swapaxes|movedim|unsqueeze|squeeze|as_strided|detach|alias)$"
)
# Operators that read strided operands at about the speed of contiguous ones.
_TAKES_STRIDES = re.compile(
    r"^aten::(linear|addmm|mm|bmm|baddbmm|matmul|add|sub|mul|div|relu|gelu|silu|tanh|sigmoid|clamp_min|where|exp|sqrt|sum|mean"
    r"|scaled_dot_product_attention)$"
)
NEEDED, PERHAPS, NEEDLESS = range(3)


class LayoutCopies(Struct, frozen=True):
    """The copies of a run.

    Attributes:
        calls: host rows of the copies, shape (k,), in time order.
        verdict: NEEDED, PERHAPS (the next operator takes strides) or NEEDLESS (the next operator copies it again, or it brings
            back the order from which the copy before it started), shape (k,).
        call_of: for each entry of the activity table the index of its copy in `calls`, -1 for other work; shape (n,).
    """

    calls: Rows
    verdict: Rows
    call_of: Rows

    def work(self, verdict: int) -> Mask:
        """Entries of the copies with this verdict, shape (n,)."""
        found: Mask = (self.call_of >= 0) & (np.append(self.verdict, NEEDED)[self.call_of] == verdict)
        return found


def layout_copies_of(run: Run) -> LayoutCopies | None:
    """The copies of a run that only change the layout, or None if there are none."""
    calls = calls_of(run, COPYING)
    owner = owner_of(run, COPYING)
    busy = distinct(owner[owner >= 0])
    # the copy inside contiguous() is a clone(), which owns the work: look from the outermost of them
    inner = np.searchsorted(run.trace.events.start[calls], run.trace.events.start[busy], side="right") - 1
    outer_of = {int(row): int(calls[i]) for row, i in zip(busy.tolist(), inner.tolist(), strict=True) if i >= 0}
    kept = np.array([row for row in sorted(set(outer_of.values())) if not _is_plain(run.trace.args_of(row))], np.int64)
    if not len(kept):
        return None
    kept = kept[np.argsort(run.trace.events.start[kept], kind="stable")]
    index = {int(row): i for i, row in enumerate(kept.tolist())}
    which, at = numbered(owner)
    call_of = np.array([index.get(outer_of.get(int(row), -1), -1) for row in which.tolist()], np.int64)[at]
    return LayoutCopies(kept, _verdicts(run, kept), call_of)


def _is_plain(args: EventArgs | None) -> bool:
    """Whether the strides show that the source was contiguous: a copy for safety, not for order."""
    dims, strides = (args.shape(0), _strides(args)) if args is not None else (None, None)
    return dims is not None and strides is not None and strides == _dense(dims)


def _strides(args: EventArgs) -> tuple[int, ...] | None:
    if not args.strides or not args.strides[0]:
        return None
    return tuple(s for s in args.strides[0] if isinstance(s, int))


def _dense(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(dims[i + 1 :]) for i in range(len(dims)))


def _verdicts(run: Run, calls: Rows) -> Rows:
    """Judge each copy by the operator that follows it on its thread; copies in backward are the framework's."""
    follows = _next_readers(run, calls)
    index = {int(row): i for i, row in enumerate(calls.tolist())}
    names = run.trace.names
    own = ~in_backward(run, calls)
    verdict = np.full(len(calls), NEEDED, np.int64)
    for i, reader in enumerate(follows.tolist()):
        if reader < 0 or not own[i] or verdict[i] == NEEDLESS:
            continue
        if reader in index:
            again, undone = _copied_again(run.trace.args_of(int(calls[i])), run.trace.args_of(reader))
            verdict[i] = NEEDLESS if again else NEEDED
            verdict[index[reader]] = NEEDLESS if undone else NEEDED
        elif _TAKES_STRIDES.match(names[int(run.trace.events.name[reader])]):
            verdict[i] = PERHAPS
    return verdict


def _next_readers(run: Run, calls: Rows) -> Rows:
    """Row of the first operator after each call on its thread that is no strided view, -1 if there is none."""
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    ops = ops[~np.isin(events.name[ops], ids_matching(run.trace, _STRIDED_VIEW))]
    out = np.full(len(calls), -1, np.int64)
    for wanted, here in on_each(events.track[calls], events.track[ops]):
        mine = ops[here]
        at = np.searchsorted(events.start[mine], events.end[calls[wanted]], side="left")
        out[wanted] = np.append(mine, -1)[np.minimum(at, len(mine))]
    return out


def _copied_again(first: EventArgs | None, second: EventArgs | None) -> tuple[bool, bool]:
    """Whether the second copy reads a permuted view of the first one's result, and whether it brings back the first order.

    Where strides were not recorded, sizes must have been turned round and back.
    """
    before, after = (args.shape(0) if args is not None else None for args in (first, second))
    if first is None or second is None or before is None or after is None or len(before) != len(after):
        return False, False
    source, strides = _strides(first), _strides(second)
    if source is None or strides is None or len(source) != len(before) or len(strides) != len(after):
        turned = before != after and before == after[::-1]
        return turned, turned
    result = sorted(zip(before, _dense(before), strict=True))
    if result != sorted(zip(after, strides, strict=True)):
        return False, False
    in_memory = tuple(before[i] for i in sorted(range(len(before)), key=lambda i: -source[i]))
    return True, in_memory == after
