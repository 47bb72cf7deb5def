"""What becomes of the results of operators in one step: one made them before, or nobody reads them.

Each operator beside backward is told with what it read and what it made (see `operator_watch`). A result is the same as a former
one if the operator, the shapes, and a sample of the values are: random numbers, parameters and data that change never are. It is
read if an operator reads it, whose own result is read; if it leaves the graph of autograd; or if it is still there when the step
ends. A product with zero reads nothing. Nothing is kept but numbers, names and weak references.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mfu_doctor.capture.facts.value_samples import Sampler
from mfu_doctor.facts.wasted_work import OperatorResults

MOST_OPERATORS = 20_000  # that are looked at in a step: 40 us each, in a step whose time is not used
_SMALLEST = 1024  # elements: an operator with a smaller result is not worth a word

Dims: TypeAlias = tuple[tuple[int, ...], ...]
_Kind: TypeAlias = tuple[str, Dims]
_Value: TypeAlias = tuple[str, Dims, bytes]

# Operators that hand on what they got, or make what is written later: that their results are equal says nothing.
_NO_WORK = frozenset(
    f"aten::{name}"
    for name in (
        *("clone", "copy_", "_to_copy", "contiguous", "fill_", "zero_", "zeros_like", "ones_like", "full_like"),
        *("empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "lift_fresh", "detach", "_unsafe_view"),
    )
)
# Operators whose result autograd keeps for backward: it detaches it once, as the program does whose code reads it outside.
_KEEPS_RESULT = frozenset(
    f"aten::{name}"
    for name in (
        *("relu", "tanh", "sigmoid", "_softmax", "_log_softmax", "exp", "sqrt", "rsqrt", "reciprocal", "elu", "selu"),
        *("hardtanh", "leaky_relu", "max_pool2d_with_indices", "native_layer_norm", "native_batch_norm", "cumprod"),
        *("native_group_norm", "_scaled_dot_product_flash_attention_for_cpu", "mkldnn_rnn_layer", "linalg_vector_norm"),
        *(
            "_native_batch_norm_legit",
            "_batch_norm_with_update",
            "softplus",
            "logsumexp",
            "pow",
            "prod",
            "norm",
            "cdist",
        ),
        *("_cdist_forward", "expm1", "tan", "relu_", "tanh_", "sigmoid_", "exp_", "sqrt_", "elu_", "leaky_relu_"),
    )
)
# Operators that also count what they see, for evaluation: that is no use of their result.
_NORMS = re.compile(r"aten::(_native|native|cudnn|miopen|mkldnn)?_?batch_norm\w*")


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator of torch is, from its schema."""

    name: str
    is_view: bool  # its result is a part of what it got
    writes: bool  # into what it got


@dataclass(frozen=True, slots=True)
class Call:
    """An operator that was called beside backward.

    Attributes:
        operator: which one.
        given: the tensors that it got.
        results: those that it returned.
        in_forward: whether autograd follows it: not the optimizer, nor what runs without gradients.
        is_zero: whether it is a product with zero.
    """

    operator: Operator
    given: Sequence[Any]
    results: Sequence[Any]
    in_forward: bool
    is_zero: bool

    @property
    def has_gradient(self) -> bool:
        """Whether autograd adds a node for it."""
        return any(one.requires_grad for one in self.given) and all(one.is_floating_point() for one in self.results)


@dataclass(slots=True, eq=False)
class _Made:
    """One call."""

    kind: _Kind
    reads: tuple[int, ...]  # calls whose results it reads
    is_read: bool  # whatever becomes of its result
    is_plain: bool  # without a gradient: what no operator reads may be read in any way
    is_zero: bool  # a product with zero, which needs nothing of what it reads
    results: tuple[weakref.ref[Any], ...]
    place: str | None


@dataclass(slots=True)
class Results:
    """The results of one step.

    Attributes:
        samples: takes samples of values.
        former: values of the step that was looked at before; empty: none was.
    """

    samples: Sampler
    former: frozenset[_Value] = frozenset()
    values: Counter[_Value] = field(default_factory=Counter)
    _made: list[_Made] = field(default_factory=list)
    _maker: dict[int, int] = field(default_factory=dict)  # of what lies in a storage now
    _kept: set[int] = field(default_factory=set)  # calls whose result autograd may still detach
    _again: list[tuple[_Kind, str | None, bool]] = field(default_factory=list)  # calls that made a known value

    @property
    def full(self) -> bool:
        """Whether no more operators are looked at."""
        return len(self._made) >= MOST_OPERATORS

    def detached(self, tensor: Any) -> None:
        """A tensor is detached: by autograd that keeps it, or by the program, which may read it in any way."""
        maker = self._maker.get(storage_of(tensor))
        if maker is not None and maker in self._kept:
            self._kept.discard(maker)
        elif maker is not None:
            self._made[maker].is_read = True

    def used(self, given: Iterable[Any], results: Iterable[Any], *, has_effect: bool) -> None:
        """An operator that is not followed was called: one of backward, whose gradient reaches something or not."""
        cells = {storage_of(tensor) for tensor in given}
        for maker in {maker for cell in cells if (maker := self._maker.get(cell)) is not None and has_effect}:
            self._made[maker].is_read = True
        for tensor in results:  # memory that was freed is used again
            if (cell := storage_of(tensor)) not in cells:
                self._maker.pop(cell, None)

    def made(self, call: Call, place: Callable[[], str | None]) -> None:
        """An operator beside backward was called."""
        kind = call.operator.name, tuple(tuple(tensor.shape) for tensor in call.given if tensor.dim())
        reads = {maker for tensor in call.given if (maker := self._maker.get(storage_of(tensor))) is not None}
        cells = {storage_of(tensor) for tensor in call.results}
        outside = call.operator.writes and any(cell not in self._maker for cell in cells)
        outside &= _NORMS.match(call.operator.name) is None
        is_read = outside or not call.results or not call.in_forward
        at = len(self._made)
        where = None if is_read else place()
        # what is read in any case is not referred to, such as a parameter that an optimizer writes
        results = () if is_read else tuple(map(weakref.ref, call.results))
        self._made.append(_Made(kind, tuple(reads), is_read, not call.has_gradient, call.is_zero, results, where))
        self._maker.update(dict.fromkeys(cells, at))
        if call.operator.name in _KEEPS_RESULT:
            self._kept.add(at)
        if call.given and call.results and call.operator.name not in _NO_WORK:
            self._compare(kind, call.results[0], place)

    def _compare(self, kind: _Kind, result: Any, place: Callable[[], str | None]) -> None:
        sample = self.samples.of(result) if result.numel() >= _SMALLEST else None
        if sample is None:
            return
        value = (*kind, sample)
        self.values[value] += 1
        again = self.values[value] > 1
        if again or value in self.former:
            self._again.append((kind, place(), again))

    def told(self) -> tuple[OperatorResults, ...]:
        """The operators some of whose calls were for nothing, with the most such calls first."""
        calls = Counter(made.kind for made in self._made)
        repeats = Counter((kind, place) for kind, place, again in self._again if again)
        constants = Counter((kind, place) for kind, place, again in self._again if not again)
        lost, zeroed = self._lost()
        unread = Counter((made.kind, made.place) for made in lost)
        in_backward = Counter((made.kind, made.place) for made in zeroed)
        return tuple(
            OperatorResults(
                operator=kind[0],
                dims=kind[1],
                place=place,
                calls=calls[kind],
                again=repeats[kind, place],
                constant=constants[kind, place],
                unread=unread[kind, place],
                zeroed=in_backward[kind, place],
            )
            for kind, place in sorted(repeats.keys() | constants.keys() | unread.keys(), key=str)
        )

    def forget(self) -> None:
        """Let go of all but the values: torch swaps no tensor that anybody refers to."""
        self._made.clear()
        self._maker.clear()

    def _lost(self) -> tuple[list[_Made], list[_Made]]:
        """Calls whose result nobody reads, directly or through others; those of them that backward goes through."""
        read = {maker for made in self._made for maker in made.reads}
        needed = [
            made.is_read or (made.is_plain and at not in read) or any(result() is not None for result in made.results)
            for at, made in enumerate(self._made)
        ]
        zeroed = [False] * len(needed)
        for at in range(len(needed) - 1, -1, -1):
            made = self._made[at]
            for maker in made.reads:
                needed[maker] |= needed[at] and not made.is_zero
                zeroed[maker] |= zeroed[at] or made.is_zero
        lost = [at for at, is_needed in enumerate(needed) if not is_needed]
        with_gradient = [at for at in lost if zeroed[at] and not self._made[at].is_plain]
        return [self._made[at] for at in lost], [self._made[at] for at in with_gradient]


def storage_of(tensor: Any) -> int:
    """What tells the memory of a tensor from that of others, as long as it lives."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - no public name exists
