"""One call of an operator as its formula sees it: only what both live tensors and a trace contain.

Live calls and recorded ones each have an adapter that fills this in. So each formula is defined once, and both counts agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.devices.dtypes import element_bytes, is_complex, short_dtype

COMPLEX_PRODUCTS = 4  # real multiplications in one multiplication of complex numbers


class Operand(Struct, frozen=True):
    """A tensor argument.

    Attributes:
        shape: its shape.
        type: its dtype as whoever saw the call spells it ("torch.bfloat16", "c10::BFloat16"); None if unknown.
        values: the content of a small integer tensor, if the adapter could look at it (offsets of packed sequences).
        needed: whether a gradient of it is asked for; None if nothing tells.
        sparse: whether it keeps its zeros nowhere: its shape says nothing about how much is multiplied.
    """

    shape: tuple[int, ...]
    type: str | None = None
    values: tuple[int, ...] | None = None
    needed: bool | None = None
    sparse: bool = False

    @property
    def dtype(self) -> str | None:
        """Short name of the dtype, None for what no matmul unit computes in."""
        return short_dtype(self.type)

    @property
    def element_bytes(self) -> float | None:
        """Bytes of one element, None if the dtype is unknown."""
        return element_bytes(self.type)

    @property
    def products(self) -> int:
        """Real multiplications in one multiplication of two of its elements."""
        return COMPLEX_PRODUCTS if is_complex(self.type) else 1


Argument: TypeAlias = Operand | tuple[Operand, ...] | bool | int | tuple[int, ...] | None


class Call(Struct, frozen=True):
    """The arguments of one call by the names in the operator's schema; what is not given or not known is absent or None.

    Every question takes the names that an argument has in different operators and answers for the first that is known.

    Attributes:
        arguments: the arguments by name.
        output: shape of the result, if the adapter knows it.
    """

    arguments: Mapping[str, Argument]
    output: tuple[int, ...] | None = None

    def tensor(self, *names: str) -> Operand | None:
        """A tensor argument."""
        return next((a for name in names if isinstance(a := self.arguments.get(name), Operand)), None)

    def tensors(self, name: str) -> tuple[Operand, ...]:
        """A list of tensors, () if there is none."""
        given = self.arguments.get(name)
        return tuple(a for a in given if isinstance(a, Operand)) if isinstance(given, tuple) else ()

    def flag(self, *names: str) -> bool | None:
        """A boolean argument."""
        return next((a for name in names if isinstance(a := self.arguments.get(name), bool)), None)

    def integer(self, *names: str) -> int | None:
        """An integer argument."""
        known = (a for name in names if isinstance(a := self.arguments.get(name), int) and not isinstance(a, bool))
        return next(known, None)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers or of booleans; a single one is a list of one. None if it is empty or unknown."""
        given = self.arguments.get(name)
        if isinstance(given, int):
            return (given,)
        return tuple(int(a) for a in given if isinstance(a, int)) or None if isinstance(given, tuple) else None
