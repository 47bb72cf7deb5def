"""How much of the scores of attention a mask keeps: `softmax(where(mask, scores, -inf))`, or `masked_fill`.

Dense attention over a graph, or over a window, computes a score for each pair and keeps few of them. The nodes of autograd have
saved the masks for the gradient of the scores. As with `zero_operands`, they are counted in steps that are not recorded, a
device is only asked to count, and nothing of the program's is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.facts.answers import read_answers
from mfu_doctor.capture.facts.saved_tensors import saved_tensor
from mfu_doctor.facts.wasted_work import KeptScores

_FEWEST_ELEMENTS = 1 << 16  # the softmax of fewer scores takes microseconds
_MOST_ELEMENTS = 1 << 28  # of all counts together: one count reads a mask once, as the softmax does with the scores
_MOST_COUNTS = 256  # each is a number in the memory of the device
_PAIRS = 2  # axes
# Of the node before a softmax: the name under which its mask is saved.
_MASKS = {"WhereBackward0": "_raw_saved_condition", "MaskedFillBackward0": "_raw_saved_mask"}


class _Masked(Struct, frozen=True):
    """A softmax of masked scores in one pass."""

    node: Any
    mask: Any
    keeps: bool  # the value of the mask where a score is kept
    dims: tuple[int, ...]


class _Softmax(Struct):
    """The softmaxes of one position in their backward passes."""

    counts: list[int] = field(default_factory=list)  # of the passes that were counted: places in the list of all counts
    sequence: set[int] = field(default_factory=set)  # of the passes that were recorded
    dims: tuple[int, ...] = ()


class MaskCounts(Struct):
    """Counts over a few backward passes."""

    _softmaxes: dict[tuple[int, int], _Softmax] = field(default_factory=dict)
    _counts: list[tuple[int, bool, Any]] = field(default_factory=list)  # elements, what is kept, a tensor of ours
    _left: int = _MOST_ELEMENTS

    def begins(self, nodes: Sequence[Any], recorded: bool) -> None:
        """A pass begins through these nodes, in a step that is recorded or not."""
        masked = [one for node in nodes if (one := _masked(node)) is not None]
        for position, one in enumerate(masked):
            softmax = self._softmaxes.setdefault((len(masked), position), _Softmax())
            if recorded:
                softmax.sequence.add(int(one.node._sequence_nr()))  # noqa: SLF001 - no public name exists
                softmax.dims = one.dims
            elif (at := self._count(one)) is not None:
                softmax.counts.append(at)

    def found(self) -> tuple[KeptScores, ...] | None:
        """The masked softmaxes, if any was both counted and recorded, else None. Waits for the device."""
        known = [softmax for softmax in self._softmaxes.values() if softmax.counts and softmax.sequence]
        if not known:
            return None
        answers = read_answers([asked for *_, asked in self._counts])
        true = [sum(answer) if isinstance(answer, list) else answer for answer in answers]
        kept = [
            count / elements if keeps else 1 - count / elements
            for (elements, keeps, _), count in zip(self._counts, true, strict=True)
        ]
        return tuple(
            KeptScores(dims=one.dims, kept=max(kept[at] for at in one.counts), sequence=tuple(sorted(one.sequence)))
            for one in known
            if len(one.dims) > _PAIRS or _stays([answers[at] for at in one.counts])
        )

    def _count(self, one: _Masked) -> int | None:
        """Ask how much of a mask is true: the place of the answer, or None if there were enough."""
        import torch

        elements = int(one.mask.numel())
        if elements > self._left or len(self._counts) >= _MOST_COUNTS:
            return None
        self._left -= elements
        with torch.no_grad():
            asked = torch.count_nonzero(one.mask, dim=-2) if len(one.dims) == _PAIRS else torch.count_nonzero(one.mask)
            self._counts.append((elements, one.keeps, asked))
        return len(self._counts) - 1


def _masked(node: Any) -> _Masked | None:
    """The softmax of this node, if it is one of many scores behind a mask that autograd has kept."""
    import torch

    if node.name() != "SoftmaxBackward0":
        return None
    before = node.next_functions[0][0]
    if before is None or before.name() not in _MASKS:
        return None
    scores, mask = saved_tensor(node, "_raw_saved_result"), saved_tensor(before, _MASKS[before.name()])
    if scores is None or mask is None or mask.dtype != torch.bool or scores.numel() < _FEWEST_ELEMENTS:
        return None
    if not _is_of_pairs(scores, mask):
        return None
    sides = [after is not None for after, _ in before.next_functions]
    if before.name() == "WhereBackward0" and sides.count(True) != 1:
        return None  # two kinds of scores: nothing is masked
    return _Masked(node, mask, before.name() == "WhereBackward0" and sides[0], tuple(scores.shape))


def _is_of_pairs(scores: Any, mask: Any) -> bool:
    """Whether each of N things has a score for each of them, behind a mask that is none of the scores' own.

    A choice among many (legal moves, experts) is no pair, and what is kept of the best scores is known only when all are there:
    then each head has a mask of its own. Of one head `_stays` tells.
    """
    pairs = scores.dim() >= _PAIRS and scores.shape[-1] == scores.shape[-2]
    return bool(pairs and (scores.dim() == _PAIRS or mask.numel() < scores.numel()))


def _stays(columns: list[list[int]]) -> bool:
    """Whether a mask keeps as much of each column in all passes: one that is made of the scores changes with them."""
    return len(columns) > 1 and all(one == columns[0] for one in columns)
