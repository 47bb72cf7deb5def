"""How many targets of a classification loss are ignored, and the nodes of autograd that compute it, from its logits on.

A target is ignored if it is the loss's `ignore_index`, or if the loss of each target is multiplied by a mask that is zero there.
If the losses themselves make the mask (the hardest targets, weights that vanish) it is none: all have to be computed before.

The targets are counted in steps that are not recorded, since a count is work of its own. A device is only asked to count: the
program does not wait for the answer, which is read when the recording is over. The nodes are read in the recorded step, where
they have the numbers of the trace. Nothing of the program's is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.facts.answers import read_answers
from mfu_doctor.capture.facts.saved_tensors import saved_tensor
from mfu_doctor.facts.wasted_work import IgnoredTargets

# Backward passes whose targets are counted; each count is a number in the memory of the device.
_MOST_COUNTS = 256

_LOSSES = ("NllLossBackward0", "NllLoss2DBackward0")
_PRODUCTS = ("AddmmBackward0", "MmBackward0", "BmmBackward0")
# Nodes that treat each row on its own, or only look at it in another way: between logits and loss of most programs.
_ROWWISE = (
    *("LogSoftmaxBackward0", "ToCopyBackward0", "AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0"),
    *("TanhBackward0", "ClampBackward1", "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"),
    *("TransposeBackward0", "TBackward0", "PermuteBackward0", "SliceBackward0", "CloneBackward0", "SqueezeBackward0"),
    *("UnsqueezeBackward0", "SqueezeBackward1", "ExpandBackward0", "AliasBackward0", "SelectBackward0"),
)
# Nodes that only look at losses in another way.
_ALIKE = ("ViewBackward0", "ReshapeAliasBackward0", "ToCopyBackward0", "SqueezeBackward0", "UnsqueezeBackward0")


class _Loss(Struct):
    """The losses of one position in their backward passes."""

    # Of each pass that was counted: its targets, and tensors of ours with the number of the ignored ones, and whether the losses
    # make the mask, if there is one.
    counts: list[tuple[int, Any, Any]] = field(default_factory=list)
    sequence: set[int] = field(default_factory=set)  # of the passes that were recorded
    masked: bool = False


class TargetCounts(Struct):
    """Counts over a few backward passes."""

    _losses: dict[int, _Loss] = field(default_factory=dict)

    def begins(self, nodes: Sequence[Any], recorded: bool) -> None:
        """A pass begins through these nodes, in a step that is recorded or not."""
        masks = _masks(nodes)
        for position, node in enumerate(node for node in nodes if node.name() in _LOSSES):
            loss = self._losses.setdefault(position, _Loss())
            if recorded:
                loss.sequence |= _made_of(node)
            elif len(loss.counts) < _MOST_COUNTS and (counted := _count(node, masks.get(id(node)))) is not None:
                loss.counts.append(counted)
                loss.masked |= id(node) in masks

    def ignored(self) -> tuple[IgnoredTargets, ...] | None:
        """The losses of which targets are ignored; None if none was both counted and recorded. Waits for the device."""
        known = [loss for loss in self._losses.values() if loss.counts and loss.sequence]
        if not known:
            return None
        told = [_told(loss) for loss in known]
        return tuple(loss for loss in told if loss.ignored)


def _told(loss: _Loss) -> IgnoredTargets:
    targets, ignored = [count for count, *_ in loss.counts], read_answers([asked for _, asked, _ in loss.counts])
    made = read_answers([by_loss for *_, by_loss in loss.counts if by_loss is not None])
    if len(made) == len(targets) and all(made):
        ignored = [0] * len(targets)
    return IgnoredTargets(
        targets=sum(targets),
        ignored=sum(ignored),
        losses=len(targets),
        least=min(none / all_of for none, all_of in zip(ignored, targets, strict=True)),
        sequence=tuple(sorted(loss.sequence)),
        masked=loss.masked,
    )


def _masks(nodes: Sequence[Any]) -> dict[int, Any]:
    """By the identity of its node, what the loss of each target is multiplied by."""
    found: dict[int, Any] = {}
    for product in (node for node in nodes if node.name() == "MulBackward0"):
        for (factor, _), name in zip(product.next_functions, ("_raw_saved_other", "_raw_saved_self"), strict=True):
            loss, mask = _looked_through(factor), saved_tensor(product, name)
            if loss is not None and loss.name() in _LOSSES and mask is not None:
                found[id(loss)] = mask
    return found


def _looked_through(node: Any) -> Any:
    """The node behind those that only look at its result in another way."""
    while node is not None and node.name() in _ALIKE:
        node = node.next_functions[0][0]
    return node


def _count(node: Any, mask: Any) -> tuple[int, Any, Any] | None:
    """Targets, and as tensors how many are ignored and whether the losses make the mask; None if that cannot be told."""
    target = saved_tensor(node, "_raw_saved_target")
    if target is None:
        return None
    ignored = node._saved_ignore_index  # noqa: SLF001 - no public name exists
    signed = ignored - (1 << 64) if ignored >= 1 << 63 else ignored
    without = target == signed
    by_loss = None
    if mask is not None and mask.numel() == target.numel():
        zeros = (mask == 0).view_as(target)
        by_loss = _makes(saved_tensor(node, "_raw_saved_self"), target, zeros, without)
        without = without | zeros
    return int(target.numel()), without.sum(), by_loss


def _makes(log_probabilities: Any, target: Any, zeros: Any, ignored: Any) -> Any:
    """Whether a mask is zero just where losses are the least, or the greatest: a tensor, as the device tells it, or None."""
    import torch

    if log_probabilities is None:
        return None
    with torch.no_grad():
        each = -log_probabilities.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
        least, most = each.masked_fill(ignored, torch.inf), each.masked_fill(ignored, -torch.inf)
        easy = most.masked_fill(~zeros, -torch.inf).amax() <= least.masked_fill(zeros, torch.inf).amin()
        hard = least.masked_fill(~zeros, torch.inf).amin() >= most.masked_fill(zeros, -torch.inf).amax()
        return easy | hard


def _made_of(loss: Any) -> set[int]:
    """Numbers of the nodes from a loss back to the product that makes its logits; none if another operator makes them."""
    found, left, made = set(), [loss], False
    while left:
        node = left.pop()
        number = int(node._sequence_nr())  # noqa: SLF001 - no public name exists
        if number in found:
            continue
        found.add(number)
        if node.name() in _PRODUCTS:
            made = True
            continue
        children = (child for child, _ in node.next_functions if child is not None)
        left += [child for child in children if child.name() in (*_ROWWISE, *_PRODUCTS)]
    return found if made else set()
