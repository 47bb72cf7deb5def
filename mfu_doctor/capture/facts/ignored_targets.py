"""How many targets of a classification loss are ignored, and the nodes of autograd that compute it, from its logits on.

The targets are counted in steps that are not recorded and whose times are not used, since a count is work of its own. The nodes
are read in the recorded step, where they have the numbers of the trace. Nothing but numbers is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.loop.stopwatch import capturing_graph
from mfu_doctor.facts.wasted_work import IgnoredTargets

_LOSSES = ("NllLossBackward0", "NllLoss2DBackward0")
_PRODUCTS = ("AddmmBackward0", "MmBackward0", "BmmBackward0")
# Nodes that treat each row on its own, or only look at it in another way: between logits and loss of most programs.
_ROWWISE = (
    *("LogSoftmaxBackward0", "ToCopyBackward0", "AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0"),
    *("TanhBackward0", "ClampBackward1", "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"),
    *("TransposeBackward0", "TBackward0", "PermuteBackward0", "SliceBackward0", "CloneBackward0", "SqueezeBackward0"),
    *("UnsqueezeBackward0", "SqueezeBackward1", "ExpandBackward0", "AliasBackward0", "SelectBackward0"),
)


@dataclass(slots=True)
class _Loss:
    """The losses of one position in their backward passes."""

    counts: list[tuple[int, int]] = field(
        default_factory=list
    )  # targets and ignored ones, of each pass that was counted
    sequence: set[int] = field(default_factory=set)  # of the passes that were recorded


@dataclass(slots=True)
class TargetCounts:
    """Counts over a few backward passes."""

    _losses: dict[int, _Loss] = field(default_factory=dict)

    def begins(self, roots: Sequence[Any], recorded: bool) -> None:
        """A pass begins from these tensors, in a step that is recorded or not."""
        if capturing_graph():
            return
        losses = [node for node in nodes_behind(roots) or () if node.name() in _LOSSES]
        for position, node in enumerate(losses):
            loss = self._losses.setdefault(position, _Loss())
            if recorded:
                loss.sequence |= _made_of(node)
            elif (counted := _count(node)) is not None:
                loss.counts.append(counted)

    def ignored(self) -> tuple[IgnoredTargets, ...] | None:
        """The losses of which targets are ignored; None if none was both counted and recorded."""
        known = [loss for loss in self._losses.values() if loss.counts and loss.sequence]
        if not known:
            return None
        told = [_told(loss) for loss in known]
        return tuple(loss for loss in told if loss.ignored)


def _told(loss: _Loss) -> IgnoredTargets:
    targets, ignored = (sum(column) for column in zip(*loss.counts, strict=True))
    return IgnoredTargets(
        targets=targets,
        ignored=ignored,
        losses=len(loss.counts),
        least=min(count[1] / count[0] for count in loss.counts),
        sequence=tuple(sorted(loss.sequence)),
    )


def _count(node: Any) -> tuple[int, int] | None:
    """Targets and ignored ones; None if hooks of the program keep the targets, or they are not in plain memory."""
    import torch

    saved = getattr(node, "_raw_saved_target", None)
    # to unpack what has a hook would run it: a copy from the host, a checkpointed function once more
    if saved is None or getattr(saved, "unpack_hook", saved) is not None:
        return None
    target = saved.data
    if type(target) is not torch.Tensor or target.is_meta or not target.numel():
        return None
    ignored = node._saved_ignore_index  # noqa: SLF001 - no public name exists
    signed = ignored - (1 << 64) if ignored >= 1 << 63 else ignored
    return int(target.numel()), int((target == signed).sum())


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
