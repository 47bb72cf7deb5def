"""What steps compute that changes no result, as profile() counts it beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredTargets:
    """A classification loss that ignores targets (`ignore_index`, or a mask), counted in steps beside the recorded ones."""

    targets: int = 0  # of all losses that were counted
    ignored: int = 0
    losses: int = 1  # how many were counted
    least: float = 0.0  # share that each of them ignores at the least
    sequence: tuple[int, ...] = ()  # autograd's numbers of its nodes, from the product that makes its logits on
    masked: bool = False  # the loss of each target is multiplied by a mask


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorResults:
    """Calls of an operator in forward, on inputs of these shapes, in one step beside the recorded ones."""

    operator: str = ""  # "aten::mul"
    dims: tuple[tuple[int, ...], ...] = ()  # of its tensors, without those of one element
    place: str | None = None  # the line of the user of the calls below
    calls: int = 0  # in the step, from all lines
    again: int = 0  # whose result another call of the step had made
    constant: int = 0  # the others whose result the step that was looked at before had, too
    unread: int = 0  # whose result nothing read
    zeroed: int = 0  # those of them that have a backward pass: their result is multiplied by zero


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedInput:
    """Data that the model reads, and how much of an axis its samples leave unused: they end, or begin, with one value."""

    dims: tuple[int, ...] = ()
    axis: int = 0
    least: float = 0.0  # share of the axis that the longest sample leaves unused, in all batches that were looked at
    mean: float = 0.0  # share that samples leave unused
    whole: bool = False  # whole numbers: tokens
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """What was seen of the operators of a step beside the recorded ones."""

    results: tuple[OperatorResults, ...] = ()  # of operators some of whose calls were for nothing
    padded: tuple[PaddedInput, ...] = ()  # what the model reads first, with or without padding
