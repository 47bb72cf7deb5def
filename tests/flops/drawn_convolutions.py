"""Random valid convolutions; torch's own shape inference says how large their results are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st

from tests.flops.drawn import FLOATS, Draw, Drawn, tensor


@dataclass(frozen=True)
class Convolution:
    """Operands of a drawn convolution, its arguments, its result and the FLOPs of one pass."""

    x: torch.Tensor
    weight: torch.Tensor
    arguments: dict[str, Any]
    out: torch.Tensor
    flops: int


def draw_convolution(
    draw: Draw, *, spatial: int | None = None, transposed: bool = False, dilated: bool = True
) -> Convolution:
    dims = spatial or draw(st.integers(1, 3))
    batch, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ins, outs = draw(st.integers(1, 2)), draw(st.integers(1, 2))  # in each group
    x = tensor(batch, groups * ins, *(draw(st.integers(5, 8)) for _ in range(dims)), dtype=draw(FLOATS))
    kernel = [draw(st.integers(1, 3)) for _ in range(dims)]
    weight = tensor(*((groups * ins, outs) if transposed else (groups * outs, ins)), *kernel, dtype=x.dtype)
    stride = [draw(st.integers(1, 3)) for _ in range(dims)]
    padding = [draw(st.integers(0, 1)) if k > 1 else 0 for k in kernel]
    dilation = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(dims)]
    out = torch.ops.aten.convolution.default(x, weight, None, stride, padding, dilation, transposed, [0] * dims, groups)
    positions = x.shape[2:] if transposed else out.shape[2:]
    arguments = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "transposed": transposed,
        "output_padding": [0] * dims,
        "kernel_size": kernel,
    }
    return Convolution(x, weight, arguments, out, 2 * batch * groups * ins * outs * prod(kernel) * prod(positions))


def convolution(x: str, **options: Any) -> Callable[[Draw], Drawn]:
    """`transposed` None: as drawn."""

    def drawn(draw: Draw) -> Drawn:
        chosen = options | ({"transposed": draw(st.booleans())} if options.get("transposed", False) is None else {})
        made = draw_convolution(draw, **chosen)
        return Drawn.plain({x: made.x, "weight": made.weight} | made.arguments, made.flops, made.out)

    return drawn


def convolution_backward(draw: Draw) -> Drawn:
    made = draw_convolution(draw, transposed=draw(st.booleans()))
    mask = [draw(st.booleans()) for _ in range(3)]
    given = {"grad_output": made.out, "input": made.x, "weight": made.weight, "output_mask": mask}
    return Drawn.plain(given | made.arguments, made.flops * (mask[0] + mask[1]))


def half_backward(draw: Draw) -> Drawn:
    made = draw_convolution(draw)
    return Drawn.plain({"self": made.x, "grad_output": made.out, "weight": made.weight} | made.arguments, made.flops)
