"""FLOPs of matrix products, convolutions and recurrent layers from the operands of a live call.

Written out here, and not taken from torch's own table, because that one misses operators (attention on a CPU, `mv`, LSTM),
overcounts grouped convolutions' backward and mixes recomputation into the model's FLOPs. Custom operators registered with
torch's table or with `flop_formula` are honoured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, TypeAlias

from mfu_doctor.capture.flops.attention_formulas import (
    ATTENTION,
    FLEXIBLE_ATTENTION,
    attention_flops,
    flexible_attention_flops,
)
from mfu_doctor.capture.flops.op_flops import OpFlops

Formula: TypeAlias = Callable[..., int]
CallFormula: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Any], OpFlops]

_registered: dict[str, Formula] = {}


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
    """What counts a call of this operator from its arguments, keyword arguments and result; None if there is no formula.

    Args:
        func: the overload or higher-order operator that is called.
    """
    name = operator_name(func)
    if name in _registered:
        own = _registered[name]
        return lambda args, kwargs, out: OpFlops.plain(int(own(*args, out=out, **kwargs)))
    if name in ATTENTION:
        return lambda args, kwargs, _: attention_flops(name, dict(_by_name(func, args, kwargs)))
    if name in FLEXIBLE_ATTENTION:
        return lambda args, _, __: flexible_attention_flops(name, args)
    if name in _FORWARD_CONVOLUTIONS:
        return lambda args, kwargs, out: _forward_convolution(name, _positional(func, args, kwargs), out)
    formula = _FORMULAS.get(name)
    if formula is not None:
        return lambda args, kwargs, _: OpFlops.plain(formula(*_positional(func, args, kwargs)))
    foreign = _torch_registry().get(getattr(func, "overloadpacket", func))
    if foreign is None:
        return None
    return lambda args, kwargs, out: OpFlops.plain(int(foreign(*args, **kwargs, out_val=out)))


def operator_name(func: Any) -> str:
    """Namespace and name without overload: ``aten::mm``; a higher-order operator has no namespace."""
    full = func.name() if callable(func.name) else func.name
    return str(full).partition(".")[0]


def _by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The call's arguments by the names in the operator's schema, in its order, as far as they were given."""
    for index, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - torch has no public way to a schema
        if index < len(args):
            yield argument.name, args[index]
        elif argument.name in kwargs:
            yield argument.name, kwargs[argument.name]


def _positional(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(value for _, value in _by_name(func, args, kwargs)) if kwargs else args


def _torch_registry() -> dict[Any, Any]:
    try:
        from torch.utils.flop_counter import flop_registry
    except ImportError:  # moved: custom operators then need `flop_formula`
        return {}
    return flop_registry


def _packed(a: Any) -> int:
    """Elements along the inner dimension per stored one: two 4-bit numbers share a byte."""
    return 2 if str(a.dtype).startswith("torch.float4") else 1


def _mm(a: Any, b: Any, *_: Any) -> int:
    return int(2 * a.shape[0] * a.shape[1] * b.shape[1] * _packed(a))


def _bmm(a: Any, b: Any, *_: Any) -> int:
    return int(2 * prod(a.shape) * b.shape[2])


def _mv(a: Any, *_: Any) -> int:
    return int(2 * prod(a.shape))


def _addr(_: Any, a: Any, b: Any, *__: Any) -> int:
    return int(2 * a.shape[0] * b.shape[0])


def _after_addend(formula: Formula) -> Formula:
    return lambda _, *operands: formula(*operands)


def _grouped_mm(a: Any, b: Any, *_: Any) -> int:
    """Groups are split along the tokens (2-d x 3-d), along the inner dimension (2-d x 2-d) or are a batch."""
    if a.dim() == 2:
        return int(2 * a.shape[0] * a.shape[1] * b.shape[-1] * _packed(a))
    return int(2 * a.shape[1] * a.shape[2] * b.shape[1]) if b.dim() == 2 else _bmm(a, b)


def _convolution(x: Any, weight: Any, out: Any, *, transposed: bool) -> int:
    """Each weight element meets each output position (input position where transposed); groups are in the weight's shape."""
    positions = x.shape[2:] if transposed else out.shape[2:]
    return int(2 * x.shape[0] * prod(weight.shape) * prod(positions))


def _forward_convolution(name: str, operands: tuple[Any, ...], out: Any) -> OpFlops:
    transposed = bool(operands[6]) if name in _GENERAL_CONVOLUTIONS else name.endswith("_transpose")
    return OpFlops.plain(_convolution(operands[0], operands[1], out, transposed=transposed))


def _convolution_backward(grad: Any, x: Any, weight: Any, *rest: Any) -> int:
    """One forward's worth each for the gradients of input and weight that are asked for."""
    _bias_sizes, _stride, _padding, _dilation, transposed, _output_padding, _groups, mask = rest
    return _convolution(x, weight, grad, transposed=transposed) * (bool(mask[0]) + bool(mask[1]))


def _rnn_layer(x: Any, w_input: Any, w_hidden: Any, *_: Any) -> int:
    return int(2 * prod(x.shape[:-1]) * (prod(w_input.shape) + prod(w_hidden.shape)))


def _rnn(x: Any, weights: Any, *_: Any) -> int:
    """Each weight matrix meets each token; the tokens of packed sequences are one dimension."""
    return int(2 * prod(x.shape[:-1]) * sum(prod(w.shape) for w in weights if w.dim() == 2))


def _twice(formula: Formula) -> Formula:
    """Gradients of input and of weights: two products for each of the forward's."""
    return lambda *operands: 2 * formula(*operands)


_FORMULAS: dict[str, Formula] = {
    "aten::mm": _mm,
    "aten::_int_mm": _mm,
    "aten::_scaled_mm": _mm,
    "aten::_scaled_mm_v2": _mm,
    "aten::addmm": _after_addend(_mm),
    "aten::_addmm_activation": _after_addend(_mm),
    "aten::bmm": _bmm,
    "aten::baddbmm": _after_addend(_bmm),
    "aten::addbmm": _after_addend(_bmm),
    "aten::mv": _mv,
    "aten::addmv": _after_addend(_mv),
    "aten::dot": _mv,
    "aten::vdot": _mv,
    "aten::addr": _addr,
    "aten::_grouped_mm": _grouped_mm,
    "aten::_scaled_grouped_mm": _grouped_mm,
    "aten::_scaled_grouped_mm_v2": _grouped_mm,
    "aten::convolution_backward": _convolution_backward,
    "aten::mkldnn_rnn_layer": _rnn_layer,
    "aten::mkldnn_rnn_layer_backward": _twice(_rnn_layer),
    "aten::_cudnn_rnn": _rnn,
    "aten::_cudnn_rnn_backward": _twice(_rnn),
    "aten::miopen_rnn": _rnn,
    "aten::miopen_rnn_backward": _twice(_rnn),
}
# The first operand is added to the product.
ADDED = ("aten::addmm", "aten::_addmm_activation", "aten::baddbmm", "aten::addbmm", "aten::addmv", "aten::addr")

_GENERAL_CONVOLUTIONS = ("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")
_FORWARD_CONVOLUTIONS = (
    *_GENERAL_CONVOLUTIONS,
    "aten::cudnn_convolution",
    "aten::cudnn_convolution_transpose",
    "aten::miopen_convolution",
    "aten::miopen_convolution_transpose",
    "aten::mkldnn_convolution",
    "aten::_slow_conv2d_forward",
    "aten::_conv_depthwise2d",
    "aten::conv_depthwise3d",
)

# Operators of torch itself that multiply matrices and have no formula here: listed as unknown, never silently zero.
UNCOUNTED = frozenset(
    (
        "aten::_trilinear",
        "aten::_cdist_forward",
        "aten::_cdist_backward",
        "aten::_euclidean_dist",
        "aten::_sparse_addmm",
        "aten::_sparse_sparse_matmul",
        "aten::linalg_solve_triangular",
        "aten::_linalg_solve_ex",
        "aten::linalg_cholesky_ex",
        "aten::linalg_inv_ex",
        "aten::linalg_qr",
        "aten::linalg_lu_factor_ex",
        "aten::_linalg_svd",
        "aten::_linalg_eigh",
        "aten::_fft_c2c",
        "aten::_fft_r2c",
        "aten::_fft_c2r",
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
    )
)
