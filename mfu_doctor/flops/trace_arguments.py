"""The arguments of a recorded event as a `Call`, so that the same formulas count a trace and a live step.

A trace contains shapes, types and printed scalars by position, and the name of the operator without its overload. It does not
contain the values of tensors.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.flops.call import Argument, Call, Operand
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import TABLE
from mfu_doctor.trace import EventArgs


class Surroundings(Struct, frozen=True):
    """What the neighbours of an operator show and its own arguments do not.

    Attributes:
        output: shape of the result, from the gradient that its paired backward operator received.
        parent: arguments of the enclosing operator.
        input_needed: whether the gradient of its input is asked for.
    """

    output: tuple[int, ...] | None = None
    parent: EventArgs | None = None
    input_needed: bool | None = None


NOTHING_AROUND = Surroundings()
NEEDS_OUTPUT = frozenset(name for name, row in TABLE.items() if row.needs_output)
ASKS_FOR_INPUT = frozenset(name for name, row in TABLE.items() if row.asks_for_input)
NEEDS_PARENT = frozenset(name for name, row in TABLE.items() if row.in_parent)


def recorded_flops(name: str, args: EventArgs | None, around: Surroundings = NOTHING_AROUND) -> OpFlops | None:
    """FLOPs of one operator call, or None if there is no formula or its arguments do not say.

    Args:
        name: operator name as in a trace ("aten::addmm").
        args: its recorded arguments.
        around: what its neighbours know, for operators whose own arguments are not enough.
    """
    row = TABLE.get(name)
    given = around.parent if row is not None and row.in_parent else args
    if row is None or given is None or given.dims is None:
        return None
    signature = row.signature(len(given.dims))
    arguments = {name: _argument(given, i) for i, name in enumerate(signature)}
    first = arguments.get("input")
    if around.input_needed is not None and isinstance(first, Operand):
        arguments["input"] = replace(first, needed=around.input_needed)
    return row.formula(Call(arguments, around.output))


def _argument(args: EventArgs, index: int) -> Argument:
    shape = args.shape(index)
    if shape is not None:
        return Operand(shape, args.type_of(index), sparse=args.has_no_strides(index))
    return tuple(map(Operand, args.shapes(index))) or args.printed(index)
