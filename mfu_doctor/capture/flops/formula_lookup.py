"""Which formula counts a live call: the user's own, the table's, or one registered with torch.

Torch's own formulas come last, because its table misses operators (attention on a CPU, `mv`, LSTM), overcounts grouped
convolutions' backward and mixes recomputation into the model's FLOPs. Custom operators registered there are honoured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from mfu_doctor.capture.flops.live_arguments import live_call
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import TABLE

Formula: TypeAlias = Callable[..., int]
# From arguments, keyword arguments and result; None if these do not say.
CallFormula: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Any], OpFlops | None]

_registered: dict[str, Formula] = {}

# Made of other operators, which are counted when they come by. In inference mode these arrive whole.
_COMPOSITE = ("aten::linear", "aten::scaled_dot_product_attention")


def flop_formula(name: str) -> Callable[[Formula], Formula]:
    """Register the FLOPs of a custom operator: ``@flop_formula("ns::op")``.

    The decorated function receives the operator's arguments (tensors, of which it should read shapes only) and its result as
    keyword `out`; it returns FLOP, one multiply-accumulate being two. Registering again replaces.

    Args:
        name: the operator's qualified name, without overload.
    """

    def register(formula: Formula) -> Formula:
        _registered[name] = formula
        return formula

    return register


def formula_of(func: Any) -> CallFormula | None:
    """What counts a call of this operator; None if there is no formula.

    Args:
        func: the overload or higher-order operator that is called.
    """
    name = operator_name(func)
    own = _registered.get(name)
    if own is not None:
        return lambda args, kwargs, out: OpFlops.plain(int(own(*args, out=out, **kwargs)))
    row = TABLE.get(name) if name not in _COMPOSITE else None
    if row is not None:
        return lambda args, kwargs, out: row.formula(live_call(func, row, args, kwargs, out))
    foreign = _torch_registry().get(getattr(func, "overloadpacket", func))
    if foreign is None:
        return None
    return lambda args, kwargs, out: OpFlops.plain(int(foreign(*args, **kwargs, out_val=out)))


def operator_name(func: Any) -> str:
    """Namespace and name without overload: ``aten::mm``; a higher-order operator has no namespace."""
    full = func.name() if callable(func.name) else func.name
    return str(full).partition(".")[0]


def _torch_registry() -> dict[Any, Any]:
    try:
        from torch.utils.flop_counter import flop_registry
    except ImportError:  # moved: custom operators then need `flop_formula`
        return {}
    return flop_registry
