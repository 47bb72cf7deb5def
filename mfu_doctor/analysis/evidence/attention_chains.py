"""Attention written out: the operators from the matmul before a softmax to the matmul after it, forward and backward."""

from __future__ import annotations

import re
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import of_events, work_in
from mfu_doctor.analysis.evidence.score_bias import has_own_bias
from mfu_doctor.analysis.evidence.steady_steps import Rows, under
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.arrays.intervals import union
from mfu_doctor.devices.dtypes import element_bytes, short_dtype
from mfu_doctor.trace import Category, EventArgs
from mfu_doctor.units import NS_PER_S

_LINKS = re.compile(r"^aten::(bmm|baddbmm|_softmax|_softmax_backward_data)$")
_FORWARD, _BACKWARD = "aten::_softmax", "aten::_softmax_backward_data"
_MASK = re.compile(r"^aten::(masked_fill_?|where|triu|tril)$")
_TRIANGLE = re.compile(r"^aten::(triu|tril)_?$")
# What scaled_dot_product_attention runs where no fused kernel takes its inputs.
_SLOW_PATH = re.compile(r"^aten::_scaled_dot_product_attention_math\w*$")
_DROPOUT = re.compile(r"^aten::(\w*dropout\w*|bernoulli_?)$")
_SHORTEST_SEQUENCE = 16
# FLOPs and bytes of the backward pass against the forward pass: five matmuls for two, and gradients beside their operands.
_BACKWARD_FLOPS, _BACKWARD_BYTES = 2.5, 2.0


class AttentionChains(Struct, frozen=True):
    """Chains of all recorded steps.

    Attributes:
        entry, group: members (index into the activity table) and the number of their chain, shape (k,).
        length_ns: time of each member, shape (k,).
        softmax: operator row in the middle of each chain, shape (chains,).
        shape: score matrices of the first, as text.
        flops, bytes: what a fused kernel must do and move, shape (chains,).
        peak: FLOP/s of each chain's dtype, 0 if unknown.
        masked: whether a square of scores is masked in it, as causal attention does, shape (chains,).
        causal: whether the run makes triangular masks, so that such a mask is known to be causal.
        called: whether it is scaled_dot_product_attention itself that runs them all, because no fused kernel took its inputs.
        dropped: whether scores are dropped in one of them.
    """

    entry: Rows
    group: Rows
    length_ns: npt.NDArray[np.float64]
    softmax: Rows
    shape: str
    flops: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    peak: npt.NDArray[np.float64]
    masked: npt.NDArray[np.bool_]
    causal: bool
    called: bool
    dropped: bool

    def floor_ns(self, run: Run, share_of_peak: float, unmasked: float = 1.0) -> npt.NDArray[np.int64]:
        """Nanoseconds of each chain as one kernel, never more than it takes now.

        Args:
            run: the run.
            share_of_peak: what the kernel reaches.
            unmasked: share of a masked chain's scores that the kernel computes: a half if it skips by a causal mask.
        """
        now = np.bincount(self.group, self.length_ns, minlength=len(self.softmax))
        needed = self.flops * np.where(self.masked, unmasked, 1.0)
        computing = needed / np.maximum(self.peak, 1.0) * NS_PER_S / share_of_peak
        moving = self.bytes / run.peaks.bandwidth * NS_PER_S if run.peaks.bandwidth else np.zeros(len(self.bytes))
        return np.where(self.peak > 0, np.minimum(np.maximum(computing, moving), now), now).astype(np.int64)


def attention_chains(run: Run) -> AttentionChains | None:
    """Find the written-out attentions of a run; None if there are none with known shapes that a fused kernel could compute."""
    links = rows_matching(run.trace, _LINKS, run.trace.rows(Category.CPU_OP))
    found = []
    for _, here in groups(run.trace.events.track[links]):
        mine = links[here].tolist()
        names = [run.trace.name_of(row) for row in mine]
        found += [c for i in range(len(mine)) if (c := _chain(run, mine, names, i)) is not None]
    biased = has_own_bias(run, np.array([c.row for c in found], np.int64))
    found = [c for c, is_biased in zip(found, biased.tolist(), strict=True) if not is_biased]
    if not found:
        return None
    start = np.array([c.start for c in found], np.int64)
    end = np.array([c.end for c in found], np.int64)
    order = np.argsort(start, kind="stable")
    return _members(run, [found[i] for i in order.tolist()], start[order], end[order])


class _Chain(Struct, frozen=True):
    row: int
    start: int
    end: int
    flops: float
    bytes: float
    peak: float
    shape: tuple[int, ...]


def _chain(run: Run, rows: list[int], names: list[str], i: int) -> _Chain | None:
    """The chain around the softmax at position i of the linked operators, or None."""
    reach = {_FORWARD: 1, _BACKWARD: 2}.get(names[i])
    if reach is None or i < reach or i + reach >= len(rows):
        return None
    around = names[i - reach : i] + names[i + 1 : i + reach + 1]
    args, product = run.trace.args_of(rows[i]), run.trace.args_of(rows[i - 1])
    if not all(name.endswith("bmm") for name in around) or args is None or product is None:
        return None
    scores, left = args.shape(0), product.shape(0 if names[i - 1] == "aten::bmm" else 1)
    if scores is None or left is None or len(scores) < 3 or min(scores[-2:]) < _SHORTEST_SEQUENCE:
        return None
    queries, keys = scores[-2:]
    after = (run.trace.args_of(row) for row in rows[i + 1 : i + reach + 1])
    if not (_makes(product, prod(scores)) and all(_reads(args, prod(scores)) for args in after)):
        return None  # scores that are sums of a part for each query and one for each key, as in graph attention
    width = left[-1] if names[i] == _FORWARD else _head_width(run, rows[i + 1], (queries, keys))
    if width is None:
        return None
    heads = prod(scores[:-2])
    flops, moved = 4.0 * heads * queries * keys * width, heads * 2.0 * (queries + keys) * width
    backward = names[i] == _BACKWARD
    size = element_bytes(product.type_of(0)) or 4.0
    # A CPU's fused kernel works in fp32 inside, whatever the dtype of its operands.
    dtype = "fp32" if run.is_cpu else short_dtype(product.type_of(0) or "")
    return _Chain(
        rows[i],
        int(run.trace.events.start[rows[i - reach]]),
        int(run.trace.events.end[rows[i + reach]]),
        flops * (_BACKWARD_FLOPS if backward else 1.0),
        moved * size * (_BACKWARD_BYTES if backward else 1.0),
        run.peaks.of(dtype) or 0.0,
        scores,
    )


def _makes(product: EventArgs, elements: int) -> bool:
    """Whether a product gives so many elements."""
    last = [s for i in range(3) if (s := product.shape(i)) is not None and len(s) > 1][-2:]
    return len(last) == 2 and prod(last[0][:-1]) * last[1][-1] == elements


def _reads(product: EventArgs | None, elements: int) -> bool:
    """Whether an operand of a product has so many elements."""
    return product is not None and any(prod(product.shape(i) or ()) == elements for i in range(3))


def _head_width(run: Run, row: int, sides: tuple[int, int]) -> int | None:
    """Width of a head from a matmul with the gradient of the scores: the size that is not a side of the scores."""
    args = run.trace.args_of(row)
    sizes = [s for i in (0, 1) if args is not None and (dims := args.shape(i)) is not None for s in dims[-2:]]
    other = [s for s in sizes if s not in sides]
    return other[0] if other else (min(sizes) if sizes else None)


def _members(run: Run, chains: list[_Chain], start: Rows, end: Rows) -> AttentionChains | None:
    inside = work_in(run, union(start, end)) & (run.activity.kind == COMPUTE)
    op = run.launches.op
    entry = np.flatnonzero(inside & (op >= 0))
    if not len(entry):
        return None
    issued = run.trace.events.start[op[entry]]
    number = np.searchsorted(start, issued, side="right").astype(np.int64) - 1
    held = (number >= 0) & (issued < end[np.maximum(number, 0)])
    entry, number = entry[held], number[held]
    if run.is_cpu:  # an operator's stretches are one member
        _, first = np.unique(run.activity.row[entry], return_index=True)
        entry, number = entry[first], number[first]
    return AttentionChains(
        entry,
        number,
        of_events(run, entry, (run.activity.end - run.activity.start).astype(np.float64)),
        np.array([c.row for c in chains], np.int64),
        " x ".join(str(s) for s in chains[0].shape),
        np.array([c.flops for c in chains]),
        np.array([c.bytes for c in chains]),
        np.array([c.peak for c in chains]),
        _masked(run, chains, entry, number),
        len(rows_matching(run.trace, _TRIANGLE, run.trace.rows(Category.CPU_OP))) > 0,
        _called(run, np.array([c.row for c in chains], np.int64)),
        bool(np.isin(run.trace.events.name[run.launches.op[entry]], ids_matching(run.trace, _DROPOUT)).any()),
    )


def _called(run: Run, softmax: Rows) -> bool:
    """Whether all softmaxes of forward are inside scaled_dot_product_attention; those of backward are inside no operator."""
    forward = softmax[np.isin(run.trace.events.name[softmax], run.trace.name_ids({_FORWARD}))]
    return len(forward) > 0 and bool((under(run, forward, _SLOW_PATH) >= 0).all())


def _masked(run: Run, chains: list[_Chain], entry: Rows, number: Rows) -> npt.NDArray[np.bool_]:
    """Chains with as many queries as keys in which scores are masked; backward masks the gradient of the scores again."""
    masks = np.isin(run.trace.events.name[run.launches.op[entry]], ids_matching(run.trace, _MASK))
    square = np.array([c.shape[-1] == c.shape[-2] for c in chains], np.bool_)
    found: npt.NDArray[np.bool_] = (np.bincount(number[masks], minlength=len(chains)) > 0) & square
    return found
