"""What steps compute that changes no result, as profile() counts it beside them."""

from __future__ import annotations

from msgspec import Struct


class UnusedGradients(Struct, frozen=True, kw_only=True):
    """Gradients that nobody uses, and the nodes of autograd that compute them: inputs of a node are bits (1, 2, 4, ...)."""

    fate: str  # "frozen": no optimizer has these parameters; "thrown": theirs resets these gradients before it uses its own
    parameters: int = 0
    elements: int = 0
    modules: tuple[str, ...] = ()  # that consist of such parameters: "PerceptualLoss.net"
    sequence: tuple[int, ...] = ()  # autograd's number, as in the trace
    root: tuple[int, ...] = ()  # of the first node of its pass: several may run a graph that is retained
    unused: tuple[int, ...] = ()  # inputs whose gradient nobody uses
    needed: tuple[int, ...] = ()  # other inputs with a gradient; 0: nothing that the node does is needed


class IgnoredTargets(Struct, frozen=True, kw_only=True):
    """A classification loss that ignores targets (`ignore_index`, or a mask), counted in steps beside the recorded ones."""

    targets: int = 0  # of all losses that were counted
    ignored: int = 0
    losses: int = 1  # how many were counted
    least: float = 0.0  # share that each of them ignores at the least
    sequence: tuple[int, ...] = ()  # autograd's numbers of its nodes, from the product that makes its logits on
    masked: bool = False  # the loss of each target is multiplied by a mask


class PaddedInput(Struct, frozen=True, kw_only=True):
    """Data that the model reads, and how much of an axis its samples leave unused: they end, or begin, with one value."""

    dims: tuple[int, ...] = ()
    axis: int = 0
    least: float = 0.0  # share of the axis that the longest sample leaves unused, in all batches that were looked at
    mean: float = 0.0  # share that samples leave unused
    whole: bool = False  # whole numbers: tokens
    place: str | None = None


class RepeatedCall(Struct, frozen=True, kw_only=True):
    """A module that was called several times with the same tensors in a step recorded in depth."""

    module: str  # its class
    spans: tuple[tuple[int, int], ...] = ()  # start and end of each call, unix nanoseconds
    compared: bool = False  # what they gave was read, and is equal


class RepeatedGradient(Struct, frozen=True, kw_only=True):
    """A gradient that a step recorded in depth took several times (`create_graph=True`): the same numbers each time."""

    spans: tuple[tuple[int, int], ...] = ()  # start and end of each pass, unix nanoseconds


class ConstantResult(Struct, frozen=True, kw_only=True):
    """A function of the program that gave the same numbers in all of a few steps, from the same arguments."""

    place: str  # "train.py:12": where it begins
    function: str
    calls: int = 1  # in a step
    steps: int = 0  # that were compared


class SparseOperand(Struct, frozen=True, kw_only=True):
    """A constant operand of a product, and how much of it is not zero, counted in steps beside the recorded ones."""

    dims: tuple[int, ...] = ()
    nonzero: float = 1.0  # share, at the most of all counts
    one_each: bool = False  # each sum of the product has exactly one term that is not zero: a selection, one-hot rows
    with_parameter: bool = False  # the other operand is a parameter
    sequence: tuple[int, ...] = ()  # autograd's numbers of the product's nodes


class KeptScores(Struct, frozen=True, kw_only=True):
    """A softmax of masked scores, and how much the mask keeps of them, counted in steps beside the recorded ones."""

    dims: tuple[int, ...] = ()
    kept: float = 1.0  # share, at the most of all counts
    sequence: tuple[int, ...] = ()  # autograd's numbers of the softmax's nodes
