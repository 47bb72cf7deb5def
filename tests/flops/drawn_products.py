"""Random valid matrix products and recurrent layers, their multiplications counted from the sizes that were drawn."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from hypothesis import strategies as st

from tests.flops.drawn import FLOATS, NUMBERS, SIZE, Draw, Drawn, sizes, tensor


def product(a: str, b: str, *, dtypes: st.SearchStrategy[torch.dtype] = NUMBERS) -> Callable[[Draw], Drawn]:
    """[M, K] @ [K, N]; complex numbers take four real products, packed fp4 holds two numbers."""

    def drawn(draw: Draw) -> Drawn:
        m, n, k = sizes(draw, 3)
        dtype = draw(dtypes)
        inner = 2 * k if dtype == torch.float4_e2m1fn_x2 else k
        flops = 2 * m * n * inner * (4 if dtype.is_complex else 1)
        return Drawn.plain({a: tensor(m, k, dtype=dtype), b: tensor(k, n, dtype=dtype)}, flops)

    return drawn


def batch_product(a: str, b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        batch, m, n, k = sizes(draw, 4)
        dtype = draw(NUMBERS)
        flops = 2 * batch * m * n * k * (4 if dtype.is_complex else 1)
        return Drawn.plain({a: tensor(batch, m, k, dtype=dtype), b: tensor(batch, k, n, dtype=dtype)}, flops)

    return drawn


def matrix_vector(a: str, b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        (m, k), dtype = sizes(draw, 2), draw(FLOATS)
        return Drawn.plain({a: tensor(m, k, dtype=dtype), b: tensor(k, dtype=dtype)}, 2 * m * k)

    return drawn


def vectors(b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        (k,), dtype = sizes(draw, 1), draw(FLOATS)
        return Drawn.plain({"self": tensor(k, dtype=dtype), b: tensor(k, dtype=dtype)}, 2 * k)

    return drawn


def outer(draw: Draw) -> Drawn:
    m, n = sizes(draw, 2)
    return Drawn.plain({"self": tensor(m, n), "vec1": tensor(m), "vec2": tensor(n)}, 2 * m * n)


def linear(x: str, weight: str, other: str | None = None) -> Callable[[Draw], Drawn]:
    """Input with any number of leading dimensions; `other` is added to the result by a fused operator."""

    def drawn(draw: Draw) -> Drawn:
        lead = draw(st.lists(SIZE, min_size=1, max_size=3))
        ins, outs = sizes(draw, 2)
        given = {x: tensor(*lead, ins), weight: tensor(outs, ins)}
        if other is not None:
            given[other] = tensor(*lead, outs)
        return Drawn.plain(given, 2 * prod(lead) * ins * outs)

    return drawn


def grouped(dtypes: st.SearchStrategy[torch.dtype]) -> Callable[[Draw], Drawn]:
    """Experts: groups split the rows, the inner dimension, the columns, or are a batch."""

    def drawn(draw: Draw) -> Drawn:
        groups, m, n, k = sizes(draw, 4)
        dtype, split = draw(dtypes), draw(st.sampled_from("mknb"))
        shapes = {
            "m": ((m, k), (groups, k, n)),
            "k": ((m, k), (k, n)),
            "n": ((groups, m, k), (k, n)),
            "b": ((groups, m, k), (groups, k, n)),
        }
        a, b = (tensor(*shape, dtype=dtype) for shape in shapes[split])
        packed = 2 if dtype == torch.float4_e2m1fn_x2 else 1
        return Drawn.plain({"self": a, "mat2": b}, 2 * m * n * k * packed * (groups if split == "b" else 1))

    return drawn


def recurrent_layer(first: str, second: str, passes: int) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        time, batch, ins, hidden = sizes(draw, 4)
        gates = draw(st.sampled_from([1, 3, 4])) * hidden
        given = {"input": tensor(time, batch, ins), first: tensor(gates, ins), second: tensor(gates, hidden)}
        return Drawn.plain(given, passes * 2 * time * batch * gates * (ins + hidden))

    return drawn


def recurrent_stack(passes: int) -> Callable[[Draw], Drawn]:
    """A stack of layers; packed sequences have one dimension of tokens."""

    def drawn(draw: Draw) -> Drawn:
        tokens, layers = draw(st.lists(SIZE, min_size=1, max_size=2)), draw(st.integers(1, 3))
        ins, hidden = sizes(draw, 2)
        weights, flops, width = [], 0, ins
        for _ in range(layers):
            weights += [tensor(4 * hidden, width), tensor(4 * hidden, hidden), tensor(4 * hidden), tensor(4 * hidden)]
            flops += 2 * prod(tokens) * 4 * hidden * (width + hidden)
            width = hidden
        return Drawn.plain({"input": tensor(*tokens, ins), "weight": weights}, passes * flops)

    return drawn
