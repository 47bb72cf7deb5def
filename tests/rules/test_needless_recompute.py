"""needless-recompute: everything that would not run without checkpointing counts, the gradient's own work does not."""

from __future__ import annotations

from typing import Any

from mfu_doctor.rules.memory.needless_recompute import needless_recompute
from tests.rules.judging import close, price_us, run_of
from tests.timeline import Timeline

SHAPES: dict[str, Any] = {"dims": [[64, 64], [64, 64]], "types": ["float", "float"]}


def test_casts_activations_and_python_of_the_recomputation_vanish_with_it() -> None:
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=3_000, sequence=1, **SHAPES)
            with (
                drawn.span("autograd::engine::evaluate_function: ReluBackward0", "cpu_op", sequence=1),
                drawn.span("ReluBackward0", "cpu_op", sequence=1),
            ):
                drawn.python(100)
                drawn.op("aten::to", host=200, sequence=2)
                drawn.op("aten::mm", host=1_000, sequence=2, **SHAPES)
                drawn.op("aten::relu", host=300, sequence=3)
                drawn.op("aten::threshold_backward", host=400)
            with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=0):
                drawn.op("aten::mm", host=1_000, **SHAPES)
    price = price_us(needless_recompute, run_of(drawn))
    assert price.high_ns == close(100 + 200 + 1_000 + 300)
    assert price.mid_ns == close((100 + 200 + 1_000 + 300) / 2)
