"""A row of the table: the formula of one operator, and the positions of the arguments that it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.flops.call import Call
from mfu_doctor.flops.op_flops import OpFlops

Formula: TypeAlias = Callable[[Call], OpFlops | None]  # None: the arguments do not say


class Operator(Struct, frozen=True):
    """How one operator is counted.

    Attributes:
        formula: FLOPs of a call.
        signatures: names of the arguments in the order of the operator's schema, as far as the formula reads them. Traces
            name operators without overload: an overload with other positions is a further signature, in full length.
        contents: arguments whose content the formula reads, and not only their shape.
        in_parent: a trace records the shapes that count in the enclosing operator; the signature is that operator's.
        asks_for_input: a gradient whose arguments do not tell whether that of its input is asked for; others show it.
        needs_output: without printed arguments the size of the result decides; a trace finds it in the paired gradient.
    """

    formula: Formula
    signatures: tuple[tuple[str, ...], ...]
    contents: frozenset[str] = frozenset()
    in_parent: bool = False
    asks_for_input: bool = False
    needs_output: bool = False

    def signature(self, arguments: int) -> tuple[str, ...]:
        """The signature of a call with this many recorded arguments: the overload of that length, else the first."""
        return next((s for s in self.signatures[1:] if len(s) == arguments), self.signatures[0])


def operator(formula: Formula, *signatures: str, contents: str = "") -> Operator:
    """A row from its formula and its signatures, written as names with spaces between them."""
    return Operator(formula, tuple(tuple(s.split()) for s in signatures), frozenset(contents.split()))
