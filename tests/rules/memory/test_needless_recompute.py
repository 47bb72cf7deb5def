"""needless-recompute: everything that would not run without checkpointing counts, the gradient's own work does not."""

from __future__ import annotations

from typing import Any

from mfu_doctor.facts import MemoryFacts
from mfu_doctor.rules.memory.needless_recompute import needless_recompute
from tests.rules.drawing import TENSOR, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def checkpointed(again: bool, function: str = "CheckpointFunction") -> Timeline:
    told: dict[str, Any] = {"dims": [[1024, 1024], [1024, 1024]], "types": ["float", "float"]}

    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)
        with drawn.span(f"autograd::engine::evaluate_function: {function}Backward", "cpu_op"):
            drawn.python(1)
            with drawn.span(f"{function}Backward", "cpu_op"):
                if again:  # it records for autograd again, so it carries a sequence number
                    drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, sequence=7, **told)
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"):
                    drawn.python(1)
                    with drawn.span("MmBackward0", "cpu_op"):
                        drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)
                        drawn.op("aten::mm", kernel=1_000, kernel_name=TENSOR, **told)
                drawn.python(1)

    return steps(body)


def test_recomputation_is_priced_and_withheld_where_memory_is_full() -> None:
    free = MemoryFacts(total_bytes=100, reserved_peak_bytes=40)
    run = run_of(checkpointed(True), memory=free)
    price = price_us(needless_recompute, run)
    assert price.mid_ns == close(500)
    assert price.high_ns == close(1_000)
    full = found(
        needless_recompute, run_of(checkpointed(True), memory=MemoryFacts(total_bytes=100, reserved_peak_bytes=97))
    )
    assert full.withhold is not None
    silent(needless_recompute, run_of(checkpointed(False), memory=free))


def test_a_method_that_differentiates_in_its_own_backward_is_no_checkpoint() -> None:
    """A neural ODE with the adjoint method was told to checkpoint no blocks, and to save most of its step."""
    free = MemoryFacts(total_bytes=100, reserved_peak_bytes=40)
    silent(needless_recompute, run_of(checkpointed(True, "Adjoint"), memory=free))
    found(needless_recompute, run_of(checkpointed(True, "MyCheckpoint"), memory=free))


def test_recomputation_goes_where_its_activations_are_known_to_fit() -> None:
    """The recomputed product reads and writes 12 MiB: with 30 free it is certain, with 20 only a try can tell."""
    product = 3 * 1024 * 1024 * 4
    fixes = ("x = block(x)  # not checkpoint(block, x)", "for i, block in enumerate(blocks): x = checkpoint(")
    for free, mid, fix in zip((2.5 * product, 1.5 * product), (1_000, 500), fixes, strict=True):
        memory = MemoryFacts(total_bytes=4 * product, reserved_peak_bytes=int(4 * product - free))
        run = run_of(checkpointed(True), memory=memory)
        assert price_us(needless_recompute, run).mid_ns == close(mid)
        assert "12.0 MiB" in str(found(needless_recompute, run).detail)
        assert found(needless_recompute, run).fix.startswith(fix)


FLOATS: dict[str, Any] = {"types": ["float", "float"]}
SHAPES: dict[str, Any] = {"dims": [[64, 64], [64, 64]], **FLOATS}


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


def test_products_of_a_compiled_pass_that_the_forward_pass_has_made_are_computed_again() -> None:
    forward: dict[str, Any] = {"dims": [[64], [64, 64], [64, 64]], "strides": [[1], [64, 1], [1, 64]], **FLOATS}
    gradient: dict[str, Any] = {"dims": [[64, 64], [64, 64]], "strides": [[64, 1], [64, 1]], **FLOATS}
    drawn = Timeline(device=None)
    for i in range(5):
        with drawn.step():
            with drawn.span("CompiledFunction", "cpu_op", sequence=i):
                drawn.op("aten::addmm", host=1_000, **forward)
            with (
                drawn.span("autograd::engine::evaluate_function: CompiledFunctionBackward", "cpu_op", sequence=i),
                drawn.span("CompiledFunctionBackward", "cpu_op", sequence=i),
            ):
                drawn.op("aten::addmm", host=900, **forward)
                drawn.op("aten::mm", host=1_000, **gradient)
                drawn.op("aten::mm", host=1_000, **gradient)
    run = run_of(drawn)
    assert price_us(needless_recompute, run).high_ns == close(900)
    assert run.mfu.report.model_flops == 3 * 2 * 64**3
